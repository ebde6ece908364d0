//! Container images: from a name, an archive or a directory to one EROFS image in the store.
//!
//! Knows nothing of virtual machines. Everything read here was written by somebody else: no name of
//! an image ever becomes a path of the host, no size it claims is trusted, nothing is visible in the
//! store before its digests have been checked.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

mod config;
mod digest;
mod manifest;

pub use config::{Execution, History, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Hasher};
pub use manifest::{
    Compression, Descriptor, DocumentError, Index, MAX_DOCUMENT, MAX_LAYERS, Manifest,
    ManifestOrIndex, Platform, media_type,
};

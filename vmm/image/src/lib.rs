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
mod convert;
pub mod credentials;
pub mod date;
mod digest;
mod directory;
mod erofs;
mod export;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod layer;
mod limits;
mod local;
mod manifest;
mod program;
mod pull;
mod push;
pub mod reference;
pub mod registry;
mod secret;
mod store;
mod stream;
mod tar;
#[cfg(test)]
mod testing;
mod tree;
pub mod trust;

pub use config::{Execution, History, ImageConfig, RootFs};
pub use convert::{ConvertError, Layers};
pub use digest::{Digest, DigestError, Hasher};
pub use directory::WalkError;
pub use erofs::WriteError;
pub use export::ExportError;
pub use files::FilesError;
pub use layer::LayerError;
pub use limits::Limits;
pub use local::OpenError;
pub use manifest::{
    Compression, Descriptor, DocumentError, Index, MAX_DOCUMENT, MAX_LAYERS, Manifest,
    ManifestOrIndex, Platform, media_type,
};
pub use pull::{Pull, PullError, Pulled};
pub use push::PushError;
pub use secret::Secret;
pub use store::{
    AddError, Adding, BlobWriter, Format, GetError, Image, JudgeError, Listed, Loaded, Problem,
    ProblemKind, RemoveError, Removed, SaveError, Share, Store, StoreError, StoredLayer, Tagged,
    Usage,
};
pub use stream::{Expected, StreamError};
pub use tar::TarError;

/// Tar archives as such, for whoever copies files and makes no image.
pub mod archive {
    pub use crate::tar::{
        Entry, Input, Kind, MAX_SEGMENTS, Reader, Segment, TarError, Time, header,
    };
}
pub use tree::TreeError;

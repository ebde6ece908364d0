//! A client of registries (OCI distribution-spec 1.1 and docker hub's habits). A [`Client`] opens a [`Repository`], which
//! gives a verified manifest, its configuration and a [`Blob`] for each layer; [`Downloads`] fetches several at once.
//! Knows no store, no EROFS and no command line.

mod answer;
mod blob;
mod challenge;
mod client;
mod document;
mod download;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hosts;
mod http;
mod names;
mod progress;
mod proxy;
mod push;
mod session;
mod text;
mod tls;
mod url;

pub use blob::Blob;
pub use client::{Client, Fetched, Repository, Settings};
pub use download::{DownloadError, Downloads, LayerReader, PARALLEL};
pub use error::{ExchangeError, Fault, RegistryError};
pub use hosts::{Registries, RegistriesError};
pub use http::Limits;
pub use progress::{Progress, Unwatched};
pub use push::Content;
pub(crate) use text::printable;
pub use tls::TlsError;

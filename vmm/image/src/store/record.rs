//! What the store writes down of an image, and what callers get of it.

use serde::{Deserialize, Serialize};

use super::Directory;
use crate::stream::{Expected, Found};
use crate::{Compression, Digest, Execution, ImageConfig};

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// How it wants to be run.
    pub execution: Execution,
    /// Path of its EROFS file; [`Store::open_root`](super::Store::open_root) opens it.
    pub path: std::path::PathBuf,
    /// Length of that file in bytes.
    pub bytes: u64,
    /// Its manifest, if its blobs are kept: it can be saved and pushed as it came.
    pub manifest: Option<Digest>,
    /// Where it came from, as [`Source`](crate::reference::Source) is written: what a policy judges.
    pub origins: Vec<String>,
    /// The path within the store.
    pub(super) root: String,
    /// When it came into the store, in seconds since 1970.
    pub at: u64,
}

/// `images/HEX.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// File of the root, within the store.
    pub(super) root: String,
    pub(super) root_bytes: u64,
    pub(super) execution: Execution,
    /// When the image came into the store, in seconds since 1970.
    pub(super) at: u64,
    /// The manifest whose blobs are kept.
    pub(super) manifest: Option<Digest>,
    /// Where it came from.
    #[serde(default)]
    pub(super) origins: Vec<String>,
}

/// `roots/….json`, beside the file system it describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootRecord {
    pub(super) bytes: u64,
    /// CRC-32 of the whole file.
    pub(super) checksum: u32,
    /// What the layers were when they were converted.
    pub(super) layers: Vec<StoredLayer>,
}

/// One layer as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// Digest of the packed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Digest of the tar inside.
    pub diff_id: Digest,
    /// How it was packed.
    pub compression: Compression,
    /// Bytes of the tar inside.
    pub unpacked: u64,
}

impl StoredLayer {
    pub(super) fn new((found, expected): (&Found, &Expected)) -> Self {
        Self {
            digest: found.digest,
            size: expected.size,
            diff_id: expected.diff_id,
            compression: found.compression,
            unpacked: found.unpacked,
        }
    }
}

impl Record {
    pub(super) fn new(config: &ImageConfig, root: &str, root_bytes: u64) -> Self {
        Self {
            root: root.to_owned(),
            root_bytes,
            execution: config.config.clone(),
            at: super::names::now(),
            manifest: None,
            origins: Vec::new(),
        }
    }

    /// The record of an image that was read before.
    pub(super) fn of(image: &Image) -> Self {
        Self {
            root: image.root.clone(),
            root_bytes: image.bytes,
            execution: image.execution.clone(),
            at: image.at,
            manifest: image.manifest,
            origins: image.origins.clone(),
        }
    }

    pub(super) fn image(self, id: Digest, directory: &Directory) -> Image {
        Image {
            id,
            execution: self.execution,
            path: directory.path(&self.root),
            bytes: self.root_bytes,
            manifest: self.manifest,
            origins: self.origins,
            root: self.root,
            at: self.at,
        }
    }
}

//! The image store: a directory in which everything is named by its digest.
//!
//! ```text
//! roots/HEX-1.erofs   file systems; HEX is the chain id of the layers, 1 the writer's version;
//!                     beside each a .json with its checksum and what its layers were
//! images/HEX.json     images by id: which root, how to run; appears when all of it is there
//! blobs/sha256/HEX    configurations of all images; manifests and layers of those that keep them
//! names/HEX           what a name stands for; HEX is the name's digest
//! sources/HEX         which image a local archive held when it last looked like this (a cache)
//! signatures/HEX      signatures of image HEX that a policy asked for: they are checked at each run
//! lock                held shared by whoever adds, alone by whoever collects garbage
//! turn                held for a moment by whoever changes or judges records and names
//! tmp/                what is being written; locked by whoever writes it
//! ```
//! Everything is written under `tmp/`, made durable and renamed: a reader sees all of a file or none.
//! Whoever dies leaves files in `tmp/` that nobody locks; the next conversion removes them.

mod blobs;
mod check;
mod directory;
mod get;
mod load;
mod manage;
mod names;
mod origins;
mod record;
mod save;
mod sources;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use blobs::blob_name;
pub use blobs::{Adding, BlobWriter, Share};
pub use check::{Problem, ProblemKind};
pub(crate) use directory::Directory;
pub use get::GetError;
pub use load::Loaded;
pub use manage::{Listed, RemoveError, Removed, Usage};
use names::NAMES;
pub use names::Tagged;
pub(crate) use origins::Arrival;
pub use origins::JudgeError;
pub use record::{Image, StoredLayer};
use record::{Record, RootRecord};
pub use save::{Format, SaveError};

use crate::convert::{self, ConvertError, Layers, chain_id};
use crate::manifest::parse_config;
use crate::stream::Expected;
use crate::{Digest, DocumentError, ImageConfig, Limits};

/// Directory of the file systems.
const ROOTS: &str = "roots";
/// Directory of the images' records.
const IMAGES: &str = "images";
/// Version of the EROFS writer: a change of its output needs another, or old images are reused.
const ROOT_VERSION: u32 = 1;

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{action} {path} failed")]
    File {
        /// `Reading`, `Writing`, …
        action: &'static str,
        /// Path, within the store or of it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else's directory.
    #[error("The image store {path} belongs to user {owner}, not to {user}")]
    Owner {
        /// The store.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who wants to use it.
        user: u32,
    },
    /// A record that this program did not write, or that a broken disk has changed.
    #[error("{path} in the image store is damaged")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// No image has this id.
    #[error("There is no image {0} in the store")]
    Unknown(Digest),
    /// Removed while it was about to be used.
    #[error("Image {0} was removed from the store")]
    Removed(Digest),
}

/// The image store of one user.
#[derive(Debug)]
pub struct Store {
    directory: Directory,
    limits: Limits,
}

impl Store {
    /// Opens the store at `root`, which is made (0700) if it is missing. Touches nothing else.
    ///
    /// # Errors
    /// When the directory cannot be made or opened, or belongs to somebody else.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            directory: Directory::open(root)?,
            limits: Limits::default(),
        })
    }

    /// The same store with other bounds for conversions.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The image with these documents, from the store or converted now. Processes that want the same
    /// image at the same time share the work: the others wait.
    ///
    /// `config` are the bytes of the configuration, its digest checked; `layers` describes the layers
    /// as the manifest and the configuration do, oldest first.
    ///
    /// # Errors
    /// When a layer is not what its digests say, or nothing can be written. The store is as before.
    pub fn convert(
        &self,
        config: &[u8],
        layers: &[Expected],
        source: &mut dyn Layers,
    ) -> Result<Image, AddError> {
        let id = Digest::of(config);
        if let Some(image) = self.find(&id)? {
            return Ok(image);
        }
        let parsed = parse_config(config)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        let same = layers.iter().map(|layer| &layer.diff_id).eq(diff_ids);
        if !same {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            return Err(DocumentError::LayerCount { layers, diff_ids }.into());
        }
        let root = root_name(&chain_id(diff_ids));
        let _adding = self.adding()?;
        let temporary = self.directory.lock(&root)?;
        // Also where all that is missing is a name: whoever was to give it may have died over copies of layers.
        self.directory.remove_dead();
        if let Some(image) = self.find(&id)? {
            return Ok(image);
        }
        let bytes = match self.directory.length(&root)? {
            Some(bytes) => {
                temporary.remove();
                bytes
            }
            None => {
                let converted = convert::convert(temporary.file(), layers, source, &self.limits)?;
                let layers = converted
                    .layers
                    .iter()
                    .zip(layers)
                    .map(StoredLayer::new)
                    .collect();
                let (bytes, checksum) = (converted.bytes, converted.checksum);
                let about = RootRecord {
                    bytes,
                    checksum,
                    layers,
                };
                self.directory.write_json(&about_root(&root), &about)?;
                temporary.commit(&root)?;
                bytes
            }
        };
        let record = Record::new(&parsed, &root, bytes);
        self.directory.write(&blob_name(&id), config)?;
        let _turn = self.turn()?;
        self.directory.write_json(&image_name(&id), &record)?;
        Ok(record.image(id, &self.directory))
    }

    /// Forgets that blobs of the image were kept.
    fn keep_nothing(&self, image: &Image) -> Result<(), StoreError> {
        let record = Record {
            manifest: None,
            ..Record::of(image)
        };
        self.directory.write_json(&image_name(&image.id), &record)
    }

    /// The image with this id, if it is in the store.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn find(&self, id: &Digest) -> Result<Option<Image>, StoreError> {
        let record: Option<Record> = self.directory.read_json(&image_name(id))?;
        Ok(record.map(|record| record.image(*id, &self.directory)))
    }

    /// The whole configuration of an image.
    ///
    /// # Errors
    /// When it is missing, damaged or cannot be read.
    pub fn config(&self, id: &Digest) -> Result<ImageConfig, StoreError> {
        let name = blob_name(id);
        self.directory
            .read_json(&name)?
            .ok_or(StoreError::Unknown(*id))
    }

    /// The layers of an image, oldest first, as they were when they were converted.
    ///
    /// # Errors
    /// When what is written down of them cannot be read.
    pub fn layers(&self, image: &Image) -> Result<Vec<StoredLayer>, StoreError> {
        let about: Option<RootRecord> = self.directory.read_json(&about_root(&image.root))?;
        Ok(about.map(|about| about.layers).unwrap_or_default())
    }

    /// What the image's file system holds, in a line: the chain of its layers, the version of what converted them, length and
    /// checksum. Two stores say the same of the same bytes.
    ///
    /// # Errors
    /// When what is written down of them cannot be read.
    pub fn content(&self, image: &Image) -> Result<String, StoreError> {
        let about: Option<RootRecord> = self.directory.read_json(&about_root(&image.root))?;
        let about = about.ok_or(StoreError::Removed(image.id))?;
        let name = image.root.trim_start_matches(ROOTS);
        let name = name.trim_matches('/').trim_end_matches(".erofs");
        Ok(format!("{name} {} {:08x}", about.bytes, about.checksum))
    }

    /// Opens the image's file system for a machine. While the descriptor is open, in whatever process,
    /// the image counts as in use and is not removed.
    ///
    /// # Errors
    /// When the image has been removed meanwhile.
    pub fn open_root(&self, image: &Image) -> Result<File, StoreError> {
        let file = self
            .directory
            .open_file(&image.root)?
            .ok_or(StoreError::Removed(image.id))?;
        let error = |source: rustix::io::Errno| StoreError::File {
            action: "Locking",
            path: self.directory.path(&image.root),
            source: source.into(),
        };
        rustix::fs::flock(file.as_fd(), FlockOperation::LockShared).map_err(error)?;
        match rustix::fs::fstat(&file).map_err(error)?.st_nlink {
            0 => Err(StoreError::Removed(image.id)),
            _ => Ok(file),
        }
    }
}

/// Why an image cannot be added to the store.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration is malformed or does not fit the layers.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A layer.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

fn root_name(chain: &Digest) -> String {
    format!("{ROOTS}/{}-{ROOT_VERSION}.erofs", chain.hex())
}

/// Name of what is written down about a root.
fn about_root(root: &str) -> String {
    format!("{root}.json")
}

fn image_name(id: &Digest) -> String {
    format!("{IMAGES}/{}.json", id.hex())
}

#[cfg(test)]
mod tests;

//! The image store: a directory in which everything is named by its digest.
//!
//! ```text
//! roots/HEX-1.erofs   file systems; HEX is the chain id of the layers, 1 the writer's version
//! images/HEX.json     images by id: which root, how to run; appears when all of it is there
//! blobs/sha256/HEX    configurations of all images; manifests and layers of those that keep them
//! names/HEX           what a name stands for; HEX is the name's digest
//! sources/HEX         which image a local archive held when it last looked like this (a cache)
//! lock                held shared by whoever adds, alone by whoever collects garbage
//! tmp/                what is being written; locked by whoever writes it
//! ```
//! Everything is written under `tmp/`, made durable and renamed: a reader sees all of a file or none.
//! Whoever dies leaves files in `tmp/` that nobody locks; the next conversion removes them.

mod blobs;
mod directory;
mod names;
mod record;
mod sources;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

pub use blobs::{Adding, BlobWriter, Share};
use blobs::blob_name;
pub(crate) use directory::Directory;
pub use names::Tagged;
pub use record::Image;
use record::{Record, RecordLayer};

use crate::convert::{self, ConvertError, Layers, chain_id};
use crate::files::{self, Files, FilesError};
use crate::local::{self, Local, OpenError};
use crate::manifest::parse_config;
use crate::reference::Source;
use crate::stream::Expected;
use crate::{Digest, DocumentError, ImageConfig, Limits};

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

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive or layout, or a document in it.
    #[error("{image} holds no image that can be used")]
    Open {
        /// What was asked for.
        image: String,
        /// Why.
        source: OpenError,
    },
    /// A layer.
    #[error("{image} cannot be converted")]
    Convert {
        /// What was asked for.
        image: String,
        /// Why.
        source: ConvertError,
    },
    /// Not something that lies on this machine.
    #[error("{0} is not on this machine")]
    Remote(String),
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

    /// The image that a local source holds: from the store if it is there, converted otherwise.
    ///
    /// # Errors
    /// When it is not local, broken, or cannot be written. The store is as before then.
    pub fn get(&self, source: &Source) -> Result<Image, GetError> {
        let (path, tag) = match source {
            Source::DockerArchive { path, name } => (path, name.as_deref()),
            Source::OciArchive { path, tag } => (path, tag.as_deref()),
            Source::Oci { path, tag } => (path, tag.as_deref()),
            Source::Registry(reference) => {
                let named = self.named(reference)?;
                return named.ok_or_else(|| GetError::Remote(source.to_string()));
            }
            other => return Err(GetError::Remote(other.to_string())),
        };
        let open = |source_error| GetError::Open {
            image: source.to_string(),
            source: source_error,
        };
        let looked_at = match source {
            Source::Oci { .. } => &path.join("index.json"),
            _ => path,
        };
        let file = files::open(looked_at).map_err(|error| open(error.into()))?;
        let seen = sources::Seen::of(source, looked_at, &file);
        if let Some(image) = seen.as_ref().and_then(|seen| self.remembered(seen)) {
            return Ok(image);
        }
        let local = match source {
            Source::Oci { .. } => local::oci_layout(Files::Directory(path.clone()), tag),
            Source::OciArchive { .. } => self
                .archive(file)
                .map_err(OpenError::from)
                .and_then(|file| local::oci_layout(Files::archive(file)?, tag)),
            _ => self
                .archive(file)
                .map_err(OpenError::from)
                .and_then(|file| local::docker_archive(file, tag)),
        };
        let mut local = local.map_err(open)?;
        let image = self.convert_local(source, &mut local)?;
        if let Some(seen) = seen {
            self.remember(&seen, looked_at, &image);
        }
        Ok(image)
    }

    fn convert_local(&self, source: &Source, local: &mut Local) -> Result<Image, GetError> {
        let config_bytes = std::mem::take(&mut local.config_bytes);
        let layers = std::mem::take(&mut local.layers);
        self.convert(&config_bytes, &layers, local)
            .map_err(|error| match error {
                AddError::Store(error) => GetError::Store(error),
                AddError::Document(error) => GetError::Open {
                    image: source.to_string(),
                    source: error.into(),
                },
                AddError::Convert(error) => GetError::Convert {
                    image: source.to_string(),
                    source: error,
                },
            })
    }

    /// An archive that can be read at any place: a packed one is unpacked into a file without a name.
    fn archive(&self, file: File) -> Result<File, FilesError> {
        // Packed archives come with `-` and `load`.
        Ok(file)
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
        if let Some(image) = self.find(&id)? {
            return Ok(image);
        }
        let mut record = Record::new(&parsed, &root);
        if let Some(bytes) = self.directory.length(&root)? {
            record.root_bytes = bytes;
            temporary.remove();
        } else {
            self.directory.remove_dead();
            let (found, bytes) =
                convert::convert(temporary.file(), layers, source, None, &self.limits)?;
            record.root_bytes = bytes;
            record.layers = found.iter().zip(layers).map(RecordLayer::new).collect();
            temporary.commit(&root)?;
        }
        self.directory.write(&blob_name(&id), config)?;
        self.directory.write_json(&image_name(&id), &record)?;
        Ok(record.image(id, &self.directory))
    }

    /// Notes that the blobs of `manifest` belong to the image and are kept as long as it is.
    ///
    /// # Errors
    /// When the store has no such image or cannot be written.
    pub fn keep(&self, id: &Digest, manifest: &Digest) -> Result<(), StoreError> {
        let name = image_name(id);
        let record: Option<Record> = self.directory.read_json(&name)?;
        let mut record = record.ok_or(StoreError::Unknown(*id))?;
        if record.manifest != Some(*manifest) {
            record.manifest = Some(*manifest);
            self.directory.write_json(&name, &record)?;
        }
        Ok(())
    }

    /// The manifest whose blobs are kept for an image, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn manifest_of(&self, id: &Digest) -> Result<Option<Digest>, StoreError> {
        let record: Option<Record> = self.directory.read_json(&image_name(id))?;
        Ok(record.and_then(|record| record.manifest))
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
    format!("roots/{}-{ROOT_VERSION}.erofs", chain.hex())
}

fn image_name(id: &Digest) -> String {
    format!("images/{}.json", id.hex())
}

#[cfg(test)]
mod tests;

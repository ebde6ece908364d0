//! What is in the store: finding, listing, removing, counting. Nothing in use is removed.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::blobs::{BLOBS, blob_name};
use super::origins::SIGNATURES;
use super::{IMAGES, Image, ROOTS, Store, StoreError, Tagged, about_root, image_name, sources};
use crate::reference::Reference;
use crate::{Digest, Manifest};

/// An image with everything a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The image.
    pub image: Image,
    /// Its names, in alphabetical order.
    pub names: Vec<Tagged>,
    /// Bytes on the disk: its file system and the blobs that are kept.
    pub bytes: u64,
    /// Whether a machine runs it.
    pub is_used: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that were taken away.
    pub names: Vec<String>,
    /// Images that are gone.
    pub images: Vec<Digest>,
    /// Bytes that became free.
    pub bytes: u64,
}

/// What the store takes on the disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of images.
    pub images: usize,
    /// Number of images that machines run.
    pub used: usize,
    /// File systems.
    pub roots: u64,
    /// Configurations, manifests, layers.
    pub blobs: u64,
    /// What is being written just now, and what the dead left.
    pub temporary: u64,
    /// What removing all unused images would free.
    pub reclaimable: u64,
}

/// Why an image is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No image of this name or id.
    #[error("There is no image {0:?} in the store")]
    Unknown(String),
    /// An id that several images begin with.
    #[error("{0:?} is the beginning of several image ids")]
    Ambiguous(String),
    /// A machine runs it.
    #[error("Image {0} is in use by a running container")]
    InUse(Digest),
    /// Given by id, and several names stand for it.
    #[error("Image {id} has several names: {}", .names.join(", "))]
    Named {
        /// The image.
        id: Digest,
        /// Its names.
        names: Vec<String>,
    },
}

impl Store {
    /// The image `text` means: a name, an id, or the beginning of an id.
    ///
    /// # Errors
    /// When there is none, or several begin so.
    pub fn resolve(&self, text: &str) -> Result<Image, RemoveError> {
        let unknown = || RemoveError::Unknown(text.to_owned());
        if let Ok(id) = text.parse::<Digest>().or_else(|_| Digest::from_hex(text)) {
            return self.find(&id)?.ok_or_else(unknown);
        }
        if let Ok(name) = text.parse::<Reference>()
            && let Some(image) = self.named(&name)?
        {
            return Ok(image);
        }
        let start = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if start.len() < 2 || !start.bytes().all(is_hex) {
            return Err(unknown());
        }
        let mut ids = self
            .ids()?
            .into_iter()
            .filter(|id| id.hex().starts_with(start));
        match (ids.next(), ids.next()) {
            (Some(id), None) => self.find(&id)?.ok_or_else(unknown),
            (Some(_), Some(_)) => Err(RemoveError::Ambiguous(text.to_owned())),
            _ => Err(unknown()),
        }
    }

    /// Ids of all images.
    pub(super) fn ids(&self) -> Result<Vec<Digest>, StoreError> {
        let names = self.directory.names(IMAGES)?;
        let id = |name: &String| Digest::from_hex(name.strip_suffix(".json")?).ok();
        Ok(names.iter().filter_map(id).collect())
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        // To see whether a machine runs an image is to lock it for a moment: others must not take that for a machine.
        let _turn = self.turn()?;
        self.list_in_turn()
    }

    fn list_in_turn(&self) -> Result<Vec<Listed>, StoreError> {
        let names = self.names()?;
        let mut listed = Vec::new();
        for id in self.ids()? {
            // Removed since the directory was listed, or damaged: `check` tells.
            let Ok(Some(image)) = self.find(&id) else {
                continue;
            };
            let mut bytes = self.disk(&image.root)?;
            for blob in self.blobs_of(&image)? {
                bytes += self.disk(&blob_name(&blob))?;
            }
            let is_used = self.lock_unused(&image)?.is_none();
            let names = names
                .iter()
                .filter(|name| name.image == id)
                .cloned()
                .collect();
            listed.push(Listed {
                image,
                names,
                bytes,
                is_used,
            });
        }
        listed.sort_by_key(|listed| (std::cmp::Reverse(listed.image.at), listed.image.id));
        Ok(listed)
    }

    /// Bytes a file takes on the disk.
    fn disk(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.directory.disk_bytes(name)?.unwrap_or(0))
    }

    /// Blobs that belong to an image.
    pub(super) fn blobs_of(&self, image: &Image) -> Result<Vec<Digest>, StoreError> {
        let mut blobs = vec![image.id];
        if let Some(digest) = image.manifest {
            blobs.push(digest);
            let manifest = self.read_blob(&digest)?;
            if let Some(manifest) = manifest.and_then(|bytes| Manifest::parse(&bytes).ok()) {
                blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
        blobs.sort_unstable();
        blobs.dedup();
        Ok(blobs)
    }

    /// Locks an image against being started; none where a machine runs it. An image whose file is
    /// gone is not in use.
    fn lock_unused(&self, image: &Image) -> Result<Option<Option<File>>, StoreError> {
        let Some(file) = self.directory.open_file(&image.root)? else {
            return Ok(Some(None));
        };
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Some(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StoreError::File {
                action: "Locking",
                path: self.directory.path(&image.root),
                source: errno.into(),
            }),
        }
    }

    /// Takes a name away, and the image too if it was its last one. By id: the image, if it has at most
    /// one name, or with `force` all of them.
    ///
    /// # Errors
    /// When there is none, or a machine runs it.
    pub fn remove(&self, text: &str, force: bool) -> Result<Removed, RemoveError> {
        let turn = self.turn()?;
        let image = self.resolve(text)?;
        let (mut names, failure) = self.names_with_failure()?;
        names.retain(|name| name.image == image.id);
        let mut removed = Removed::default();
        let name = text.parse::<Reference>().ok().map(|name| name.to_string());
        if let Some(name) = names
            .iter()
            .find(|there| Some(&there.name) == name.as_ref())
        {
            if names.len() > 1 {
                self.untag_text(&name.name)?;
                removed.names.push(name.name.clone());
                return Ok(removed);
            }
        } else if names.len() > 1 && !force {
            let names = names.into_iter().map(|name| name.name).collect();
            return Err(RemoveError::Named {
                id: image.id,
                names,
            });
        }
        let Some(_locked) = self.lock_unused(&image)? else {
            return Err(RemoveError::InUse(image.id));
        };
        if let Some(failure) = failure {
            // It may be one of this image's.
            return Err(failure.into());
        }
        self.forget(&image, names, &mut removed)?;
        drop(turn);
        removed.bytes = self.collect()?;
        Ok(removed)
    }

    /// Takes an image's names away and then its record. Broken off in between, it is an image without a name.
    fn forget(
        &self,
        image: &Image,
        names: Vec<Tagged>,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        for name in names {
            self.untag_text(&name.name)?;
            removed.names.push(name.name);
        }
        self.directory.remove(&image_name(&image.id))?;
        removed.images.push(image.id);
        Ok(())
    }

    /// Removes the images no machine runs: those without a name, or with `all` also the named ones.
    /// Then everything that belongs to no image.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn prune(&self, all: bool) -> Result<Removed, StoreError> {
        self.prune_if(all, &mut |_| true)
    }

    /// The same, of the images that `fits` wants gone.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn prune_if(
        &self,
        all: bool,
        fits: &mut dyn FnMut(&Listed) -> bool,
    ) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        let turn = self.turn()?;
        if let (_, Some(failure)) = self.names_with_failure()? {
            // Its image would be taken for one that nobody calls by a name.
            return Err(failure);
        }
        for listed in self.list_in_turn()? {
            if (!all && !listed.names.is_empty()) || !fits(&listed) {
                continue;
            }
            let Some(_locked) = self.lock_unused(&listed.image)? else {
                continue;
            };
            self.forget(&listed.image, listed.names, &mut removed)?;
        }
        drop(turn);
        removed.bytes = self.collect()?;
        Ok(removed)
    }

    /// Removes roots, blobs, names and memories that belong to no image, and leftovers of the dead.
    /// While anybody adds to the store nothing is removed: what is new may belong to nobody yet.
    /// Returns the bytes that became free.
    pub(super) fn collect(&self) -> Result<u64, StoreError> {
        let Some(_alone) = self.try_lock_store()? else {
            return Ok(0);
        };
        let (mut roots, mut blobs, mut images) = (HashSet::new(), HashSet::new(), HashSet::new());
        for id in self.ids()? {
            match self.find(&id) {
                Ok(Some(image)) => {
                    blobs.extend(self.blobs_of(&image)?.iter().map(Digest::hex));
                    roots.insert(image.root);
                }
                // A damaged record keeps nothing, but is not removed here: `check` does that.
                Ok(None) | Err(StoreError::Damaged { .. }) => {}
                // What it keeps may be readable again in a moment.
                Err(error) => return Err(error),
            }
            images.insert(id);
        }
        let mut free = 0;
        for name in self.directory.names(ROOTS)? {
            let name = format!("{ROOTS}/{name}");
            let root = name.strip_suffix(".json").unwrap_or(&name);
            if !roots.contains(root) {
                free += self.drop_file(&name)?;
            }
        }
        for name in self.directory.names(BLOBS)? {
            if !blobs.contains(&name) {
                free += self.drop_file(&format!("{BLOBS}/{name}"))?;
            }
        }
        for name in self
            .names()?
            .into_iter()
            .filter(|name| !images.contains(&name.image))
        {
            self.untag_text(&name.name)?;
        }
        for name in self.directory.names(SIGNATURES)? {
            if !Digest::from_hex(&name).is_ok_and(|id| images.contains(&id)) {
                self.directory.remove(&format!("{SIGNATURES}/{name}"))?;
            }
        }
        for name in self.directory.names(sources::SOURCES)? {
            let name = format!("{}/{name}", sources::SOURCES);
            if !self.is_remembered(&name, &images) {
                self.directory.remove(&name)?;
            }
        }
        self.directory.remove_dead();
        Ok(free)
    }

    fn drop_file(&self, name: &str) -> Result<u64, StoreError> {
        let bytes = self.disk(name)?;
        self.directory.remove(name)?;
        Ok(bytes)
    }

    /// What the store takes on the disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let listed = self.list()?;
        let sum = |directory: &str| -> Result<u64, StoreError> {
            let names = self.directory.names(directory)?;
            names
                .iter()
                .map(|name| self.disk(&format!("{directory}/{name}")))
                .sum()
        };
        let (roots, blobs) = (sum(ROOTS)?, sum(BLOBS)?);
        let mut kept = HashSet::new();
        for image in listed
            .iter()
            .filter(|listed| listed.is_used)
            .map(|listed| &listed.image)
        {
            kept.insert(image.root.clone());
            kept.insert(about_root(&image.root));
            kept.extend(self.blobs_of(image)?.iter().map(blob_name));
        }
        let kept = kept
            .iter()
            .map(|name| self.disk(name))
            .sum::<Result<u64, _>>()?;
        Ok(Usage {
            images: listed.len(),
            used: listed.iter().filter(|listed| listed.is_used).count(),
            roots,
            blobs,
            temporary: sum("tmp")?,
            reclaimable: (roots + blobs).saturating_sub(kept),
        })
    }
}

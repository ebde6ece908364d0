//! Whether the store is what its digests and checksums say, and repair by removing what is not. Reads
//! every byte.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::blobs::{BLOBS, blob_name};
use super::record::RootRecord;
use super::{IMAGES, Image, NAMES, ROOTS, Store, StoreError, about_root, image_name};
use crate::convert::{checksum_of, digest_of};
use crate::{Digest, Manifest};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what follows from that.
    pub kind: ProblemKind,
    /// Whether it was removed.
    pub is_repaired: bool,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// A blob with other bytes than its name says.
    #[error("its bytes are not those of its digest")]
    Blob,
    /// A file system that has changed since it was made.
    #[error("its bytes have changed since it was made")]
    Root,
    /// A record that cannot be read.
    #[error("it cannot be read")]
    Record,
    /// An image without its file system or its configuration.
    #[error("image {image} cannot be run without {missing}")]
    Incomplete {
        /// The image.
        image: Digest,
        /// What is not there.
        missing: String,
    },
    /// An image whose layers are not all there: it can be run, but not saved or pushed.
    #[error("image {image} cannot be saved or pushed without {missing}")]
    NotKept {
        /// The image.
        image: Digest,
        /// What is not there.
        missing: String,
    },
    /// A name of an image that is not there.
    #[error("the name {0} stands for no image")]
    Name(String),
}

/// A check under way.
struct Check<'a> {
    store: &'a Store,
    repair: bool,
    problems: Vec<Problem>,
}

impl Store {
    /// Compares everything with its digest. With `repair`, removes what is damaged, and images that
    /// cannot be run without it; pulling or loading them again brings them back. Repairing waits until
    /// nobody adds to the store.
    ///
    /// # Errors
    /// When the store cannot be read or written. Damage is no error.
    pub fn check(&self, repair: bool) -> Result<Vec<Problem>, StoreError> {
        let lock = match repair {
            true => self.lock_store(rustix::fs::FlockOperation::LockExclusive)?,
            false => self.lock_store(rustix::fs::FlockOperation::LockShared)?,
        };
        let mut check = Check {
            store: self,
            repair,
            problems: Vec::new(),
        };
        check.blobs()?;
        check.roots()?;
        let turn = self.turn()?;
        check.images()?;
        check.names()?;
        drop(turn);
        let problems = check.problems;
        drop(lock);
        if repair {
            self.collect()?;
        }
        Ok(problems)
    }
}

/// Whether a file is there and cannot be read or understood.
fn is_damage(error: &StoreError) -> bool {
    let action = "Reading";
    matches!(error, StoreError::Damaged { .. })
        || matches!(error, StoreError::File { action: tried, .. } if *tried == action)
}

impl Check<'_> {
    /// Notes a problem with a file, and removes the file if that repairs it.
    fn problem(&mut self, name: &str, kind: ProblemKind, remove: bool) -> Result<(), StoreError> {
        let is_repaired = self.repair && remove;
        if is_repaired {
            self.store.directory.remove(name)?;
        }
        let path = self.store.directory.path(name);
        self.problems.push(Problem {
            path,
            kind,
            is_repaired,
        });
        Ok(())
    }

    /// What `sum` makes of a whole file; none where the disk does not give it back.
    fn sum<T>(
        &self,
        name: &str,
        sum: impl FnOnce(&File, u64) -> io::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(file) = self.store.directory.open_file(name)? else {
            return Ok(None);
        };
        let length = file.metadata().map(|status| status.len());
        Ok(length.and_then(|length| sum(&file, length)).ok())
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        for hex in self.store.directory.names(BLOBS)? {
            let name = format!("{BLOBS}/{hex}");
            let digest = self.sum(&name, digest_of)?;
            if digest.is_none() || digest != Digest::from_hex(&hex).ok() {
                self.problem(&name, ProblemKind::Blob, true)?;
            }
        }
        Ok(())
    }

    fn roots(&mut self) -> Result<(), StoreError> {
        for name in self.store.directory.names(ROOTS)? {
            if name.ends_with(".json") {
                continue;
            }
            let name = format!("{ROOTS}/{name}");
            let about: Option<RootRecord> = match self.store.directory.read_json(&about_root(&name))
            {
                Err(error) if is_damage(&error) => None,
                other => other?,
            };
            let checksum = self.sum(&name, checksum_of)?;
            if checksum.is_none() || checksum != about.map(|about| about.checksum) {
                self.problem(&name, ProblemKind::Root, true)?;
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<(), StoreError> {
        for file in self.store.directory.names(IMAGES)? {
            let name = format!("{IMAGES}/{file}");
            let id = file
                .strip_suffix(".json")
                .and_then(|hex| Digest::from_hex(hex).ok());
            let image = match id.map(|id| self.store.find(&id)).transpose() {
                Err(error) if is_damage(&error) => None,
                Ok(None) => None,
                other => other?.flatten(),
            };
            match image {
                Some(image) => self.image(&name, &image)?,
                None => self.problem(&name, ProblemKind::Record, true)?,
            }
        }
        Ok(())
    }

    fn image(&mut self, name: &str, image: &Image) -> Result<(), StoreError> {
        for needed in [&image.root, &blob_name(&image.id)] {
            if self.is_missing(needed)? {
                let kind = ProblemKind::Incomplete {
                    image: image.id,
                    missing: needed.clone(),
                };
                return self.problem(name, kind, true);
            }
        }
        let Some(digest) = image.manifest else {
            return Ok(());
        };
        let bytes = self
            .store
            .read_blob(&digest)?
            .filter(|_| !self.is_bad(&blob_name(&digest)));
        let missing = match bytes.and_then(|bytes| Manifest::parse(&bytes).ok()) {
            None => Some(blob_name(&digest)),
            Some(manifest) => {
                let mut layers = manifest.layers.iter().map(|layer| blob_name(&layer.digest));
                layers.find(|layer| self.is_missing(layer).unwrap_or(true))
            }
        };
        if let Some(missing) = missing {
            let kind = ProblemKind::NotKept {
                image: image.id,
                missing,
            };
            self.problem(name, kind, false)?;
            if self.repair {
                self.store.keep_nothing(image)?;
                self.problems
                    .iter_mut()
                    .rev()
                    .take(1)
                    .for_each(|last| last.is_repaired = true);
            }
        }
        Ok(())
    }

    /// Whether a file was found damaged.
    fn is_bad(&self, name: &str) -> bool {
        let path = self.store.directory.path(name);
        self.problems.iter().any(|problem| problem.path == path)
    }

    fn is_missing(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.is_bad(name) || self.store.directory.length(name)?.is_none())
    }

    fn names(&mut self) -> Result<(), StoreError> {
        let mut readable = HashSet::new();
        for tagged in self.store.names()? {
            let file = super::names::file_name(&tagged.name);
            let image = image_name(&tagged.image);
            let gone = self.store.directory.length(&image)?.is_none()
                || self.problems.iter().any(|problem| {
                    problem.path == self.store.directory.path(&image)
                        && !matches!(problem.kind, ProblemKind::NotKept { .. })
                });
            if gone {
                self.problem(&file, ProblemKind::Name(tagged.name), true)?;
            }
            readable.insert(file);
        }
        for file in self.store.directory.names(NAMES)? {
            let name = format!("{NAMES}/{file}");
            if !readable.contains(&name) {
                self.problem(&name, ProblemKind::Record, true)?;
            }
        }
        Ok(())
    }
}

//! From the store to a registry: exactly the bytes that were pulled or loaded. Knows no terminal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use thiserror::Error;

use crate::reference::Reference;
use crate::registry::{Client, Content, PARALLEL, RegistryError, Repository};
use crate::store::{Store, StoreError};
use crate::{Descriptor, Digest, DocumentError, Manifest, media_type};

/// Why an image cannot be pushed.
#[derive(Debug, Error)]
pub enum PushError {
    /// The registry, or the way there.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No image of this name.
    #[error("There is no image {0} in the store")]
    Unknown(String),
    /// An image without the documents and layers as they were.
    #[error(
        "Of {name} the store has the file system, but not {missing}: it can be run, not pushed"
    )]
    Incomplete {
        /// The image.
        name: String,
        /// What is not there.
        missing: String,
    },
    /// Its manifest cannot be read.
    #[error("The manifest of {name} is damaged")]
    Manifest {
        /// The image.
        name: String,
        /// Why.
        source: DocumentError,
    },
}

impl Store {
    /// Pushes the image that `name` stands for to `target`. Returns the manifest's digest.
    ///
    /// # Errors
    /// When it is not there as a whole, or the registry refuses it.
    pub fn push(
        &self,
        name: &Reference,
        target: &Reference,
        client: &Client,
    ) -> Result<Digest, PushError> {
        let shown = || name.to_string();
        let known = self
            .named(name)?
            .ok_or_else(|| PushError::Unknown(shown()))?;
        let incomplete = |missing: &str| PushError::Incomplete {
            name: shown(),
            missing: missing.to_owned(),
        };
        let digest = known.manifest.ok_or_else(|| incomplete("its manifest"))?;
        let bytes = self
            .read_blob(&digest)?
            .filter(|bytes| Digest::of(bytes) == digest)
            .ok_or_else(|| incomplete("its manifest"))?;
        let manifest = Manifest::parse(&bytes).map_err(|source| PushError::Manifest {
            name: shown(),
            source,
        })?;
        let mut blobs: Vec<&Descriptor> =
            manifest.layers.iter().chain([&manifest.config]).collect();
        blobs.sort_by_key(|blob| blob.digest);
        blobs.dedup_by_key(|blob| blob.digest);
        for blob in &blobs {
            if !self.has_blob(&blob.digest)? {
                return Err(incomplete(&format!("blob {}", blob.digest)));
            }
        }
        let repository = client.open_for_push(target)?;
        // A blob of a neighbour in the same registry need not travel.
        let near = name.domain() == target.domain() && name.path() != target.path();
        self.push_blobs(&repository, &blobs, near.then(|| name.path()), name)?;
        let kind = manifest.media_type.as_deref();
        Ok(repository.push_manifest(&bytes, kind.unwrap_or(media_type::OCI_MANIFEST))?)
    }

    /// Pushes blobs, several at a time.
    fn push_blobs(
        &self,
        repository: &Repository,
        blobs: &[&Descriptor],
        mount: Option<&str>,
        name: &Reference,
    ) -> Result<(), PushError> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let push = |blob: &Descriptor| -> Result<(), PushError> {
            let file = self
                .open_blob(&blob.digest)?
                .ok_or_else(|| PushError::Incomplete {
                    name: name.to_string(),
                    missing: format!("blob {}", blob.digest),
                })?;
            repository.push_blob(blob, Content::File(&file), mount)?;
            Ok(())
        };
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = push(blob) {
                    // The others finish what they are at.
                    next.store(blobs.len(), Ordering::Relaxed);
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..PARALLEL.min(blobs.len()) {
                // A host that has no more threads does it with fewer.
                let _ = Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

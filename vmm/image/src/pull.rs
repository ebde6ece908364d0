//! From a registry into the store: layers are fetched in parallel and converted while they arrive. What a name stands for
//! changes last, so that a pull that breaks leaves the old image or the new one. Knows no terminal.

use std::io::{self, Read};
use std::sync::Arc;

use thiserror::Error;

use crate::reference::{Reference, Source};
use crate::registry::{
    Client, DownloadError, Downloads, Fetched, Progress, RegistryError, Repository,
};
use crate::store::{AddError, Arrival, BlobWriter, Image, Store, StoreError, Tagged};
use crate::trust::{Origin, Policy, TrustError, Verdict};
use crate::{Descriptor, Digest, Expected, Layers, Platform};

/// What a pull works with.
pub struct Pull<'a> {
    /// The client, with its settings.
    pub client: &'a Client,
    /// Which images may be used; none where the user overrides it.
    pub policy: Option<&'a Policy>,
    /// What the image must be for.
    pub platform: Platform,
    /// Who watches.
    pub progress: Arc<dyn Progress>,
}

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image in the store.
    pub image: Image,
    /// What the registry calls it: the digest of the index, or else of the manifest.
    pub digest: Digest,
    /// What the policy says.
    pub verdict: Verdict,
    /// Whether the name stood for something else, or nothing, before.
    pub is_new: bool,
}

/// Why an image cannot be pulled. The store is as it was.
#[derive(Debug, Error)]
pub enum PullError {
    /// The registry, or the way there.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layer.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The policy refuses it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image is broken or hostile.
    #[error("{image} cannot be converted")]
    Convert {
        /// The image.
        image: String,
        /// Why.
        source: AddError,
    },
}

impl Store {
    /// Pulls `reference`. Processes that pull the same image at the same time share the work: the others wait.
    ///
    /// # Errors
    /// When it cannot be had, may not be used, or is broken.
    pub fn pull(&self, reference: &Reference, pull: &Pull<'_>) -> Result<Pulled, PullError> {
        if let Some(policy) = pull.policy {
            policy.permits(reference)?;
        }
        let repository = Arc::new(pull.client.open(reference)?);
        let known = self.tagged(reference)?;
        if let Some(pulled) = self.unchanged(&repository, known.as_ref(), pull)? {
            return Ok(pulled);
        }
        let fetched = repository.manifest(&pull.platform)?;
        let (verdict, signatures) = match pull.policy {
            Some(policy) => policy.check(&repository, &fetched)?,
            None => (Verdict::Unchecked, Vec::new()),
        };
        let _adding = self.adding()?;
        let _share = self.share(&fetched.digest)?;
        let mut image = self.fetch(&repository, &fetched, pull)?;
        self.put_blob(&fetched.bytes)?;
        let arrival = Arrival {
            origin: &Origin::of(&Source::Registry(reference.clone())),
            manifest: Some(fetched.digest),
            signatures: &signatures,
            names: std::slice::from_ref(reference),
            top: Some(fetched.top),
        };
        self.settle(&mut image, &arrival)?;
        let before = known.map(|known| (known.image, known.manifest));
        Ok(Pulled {
            digest: fetched.top,
            verdict,
            is_new: before != Some((image.id, Some(fetched.top))),
            image,
        })
    }

    /// What is there already, if the registry's word is that nothing has changed and no signature has to be seen.
    fn unchanged(
        &self,
        repository: &Arc<Repository>,
        known: Option<&Tagged>,
        pull: &Pull<'_>,
    ) -> Result<Option<Pulled>, PullError> {
        let signed = pull.policy.is_some_and(Policy::demands_signatures);
        let Some((id, top)) = known.and_then(|known| Some((known.image, known.manifest?))) else {
            return Ok(None);
        };
        let Some(mut image) = self.find(&id)? else {
            return Ok(None);
        };
        if signed || !self.is_complete(&image, &pull.platform)? {
            return Ok(None);
        }
        // Not every registry answers this; the manifest itself is asked for then.
        if !repository.head().is_ok_and(|digest| digest == Some(top)) {
            return Ok(None);
        }
        // It may have come by another way before.
        self.note_origin(
            &mut image,
            &Source::Registry(repository.reference().clone()),
        )?;
        Ok(Some(Pulled {
            image,
            digest: top,
            verdict: Verdict::Unchecked,
            is_new: false,
        }))
    }

    /// Whether an image, its manifest and all its layers are in the store, for this platform.
    fn is_complete(&self, image: &Image, platform: &Platform) -> Result<bool, StoreError> {
        let Some(manifest) = image.manifest else {
            return Ok(false);
        };
        let Some(bytes) = self.read_blob(&manifest)? else {
            return Ok(false);
        };
        let Ok(manifest) = crate::Manifest::parse(&bytes) else {
            return Ok(false);
        };
        for layer in &manifest.layers {
            if !self.has_blob(&layer.digest)? {
                return Ok(false);
            }
        }
        let config = self.config(&image.id)?;
        Ok(config.os == platform.os && config.architecture == platform.architecture)
    }

    /// Gets and converts what the store does not have.
    fn fetch(
        &self,
        repository: &Arc<Repository>,
        fetched: &Fetched,
        pull: &Pull<'_>,
    ) -> Result<Image, PullError> {
        let manifest = &fetched.manifest;
        let (config, parsed) = repository.config(manifest, &pull.platform)?;
        let mut missing: Vec<Descriptor> = Vec::new();
        let mut blobs: Vec<BlobWriter<'_>> = Vec::new();
        for layer in &manifest.layers {
            // The same layer twice is one blob.
            if missing.iter().any(|other| other.digest == layer.digest) {
                continue;
            }
            match self.blob_writer(&layer.digest)? {
                Some(blob) => {
                    missing.push(layer.clone());
                    blobs.push(blob);
                }
                None => {
                    pull.progress.begins(&layer.digest, layer.size);
                    pull.progress.ends(&layer.digest, true);
                }
            }
        }
        let mut files = blobs.iter();
        let downloads = Downloads::start(repository, &missing, &pull.progress, |_| {
            let absent = || io::Error::from(io::ErrorKind::NotFound);
            files.next().ok_or_else(absent)?.file().try_clone()
        })?;
        let expected: Vec<Expected> = manifest
            .layers
            .iter()
            .zip(&parsed.rootfs.diff_ids)
            .map(|(layer, diff_id)| Expected {
                digest: Some(layer.digest),
                size: layer.size,
                diff_id: *diff_id,
            })
            .collect();
        let mut source = Arriving {
            store: self,
            layers: &manifest.layers,
            downloads: &downloads,
        };
        let image = match self.convert(&config, &expected, &mut source) {
            Ok(image) => image,
            Err(source) => {
                // A transfer that failed says it better than the conversion that missed its bytes.
                if let Some(failure) = downloads.failure() {
                    return Err(failure.into());
                }
                return Err(PullError::Convert {
                    image: repository.reference().to_string(),
                    source,
                });
            }
        };
        downloads.wait()?;
        self.keep_blobs(blobs)?;
        Ok(image)
    }
}

/// Layers from the store, or on their way into it.
struct Arriving<'a> {
    store: &'a Store,
    layers: &'a [Descriptor],
    downloads: &'a Downloads,
}

impl Layers for Arriving<'_> {
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let digest = self.layers.get(position).ok_or_else(absent)?.digest;
        if let Some(reader) = self.downloads.reader(&digest) {
            return Ok(Box::new(reader));
        }
        let blob = self.store.open_blob(&digest).map_err(io::Error::other)?;
        Ok(Box::new(blob.ok_or_else(absent)?))
    }
}

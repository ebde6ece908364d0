//! Fetches the layers of an image in parallel into files and onto the disk, while somebody reads them from their starts.
//! Knows not what becomes of the files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::client::Repository;
use super::error::RegistryError;
use super::progress::Progress;
use crate::{Descriptor, Digest};

mod layer;
mod shares;

pub use layer::LayerReader;
use layer::{Failure, Layer};
use shares::{Share, Shares};

/// How many connections fetch layers at the same time, as many as docker's.
pub const PARALLEL: usize = 3;
/// How much is read from the network before it is written, in bytes.
const PIECE: usize = 256 * 1024;
/// How much is written before it is verified, in bytes.
const VERIFIED: u64 = 4 << 20;

/// Layers on their way. Dropping it stops the transfers and waits for their threads.
pub struct Downloads {
    layers: HashMap<Digest, Arc<Layer>>,
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
struct Queue {
    repository: Arc<Repository>,
    progress: Arc<dyn Progress>,
    layers: Vec<Arc<Layer>>,
    shares: Shares,
}

/// The failure of a download, as readers of the layer see it.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct DownloadError(Arc<RegistryError>);

impl Downloads {
    /// Starts fetching `layers`, in this order, into the files that `file` makes for them.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn start(
        repository: &Arc<Repository>,
        layers: &[Descriptor],
        progress: &Arc<dyn Progress>,
        mut file: impl FnMut(&Descriptor) -> io::Result<File>,
    ) -> Result<Self, RegistryError> {
        let mut by_digest = HashMap::new();
        let mut order = Vec::new();
        for descriptor in layers {
            // The same layer may be there twice.
            if by_digest.contains_key(&descriptor.digest) {
                continue;
            }
            let file = file(descriptor).map_err(|source| RegistryError::Local {
                what: format!("a file for layer {}", descriptor.digest),
                source,
            })?;
            let layer = Arc::new(Layer::new(descriptor.clone(), file));
            by_digest.insert(descriptor.digest, layer.clone());
            order.push(layer);
        }
        let queue = Arc::new(Queue {
            repository: repository.clone(),
            progress: progress.clone(),
            shares: Shares::new(order.iter().map(|layer| layer.descriptor.size)),
            layers: order,
        });
        let threads = (0..PARALLEL)
            .map(|_| {
                let queue = queue.clone();
                std::thread::Builder::new()
                    .name("download".to_owned())
                    .spawn(move || queue.work())
            })
            .collect::<io::Result<Vec<_>>>();
        let downloads = |threads| Self {
            layers: by_digest,
            queue: queue.clone(),
            threads,
        };
        match threads {
            Ok(threads) => Ok(downloads(threads)),
            Err(source) => {
                queue.shares.stop();
                Err(RegistryError::Local {
                    what: "a thread for downloads".to_owned(),
                    source,
                })
            }
        }
    }

    /// Reads a layer from its start. None if it is not one of those started.
    #[must_use]
    pub fn reader(&self, layer: &Digest) -> Option<LayerReader> {
        Some(LayerReader::new(self.layers.get(layer)?.clone()))
    }

    /// The failure that ended a transfer, if one did. Those that were only stopped because of it do not count.
    #[must_use]
    pub fn failure(&self) -> Option<DownloadError> {
        self.queue.layers.iter().find_map(|layer| {
            let failure = layer.outcome()?.err()?;
            (!matches!(*failure, RegistryError::Stopped)).then_some(DownloadError(failure))
        })
    }

    /// Waits until every layer is complete and verified.
    ///
    /// # Errors
    /// The first failure.
    pub fn wait(&self) -> Result<(), DownloadError> {
        for layer in &self.queue.layers {
            if let Err(failure) = layer.wait() {
                return Err(self.failure().unwrap_or(DownloadError(failure)));
            }
        }
        Ok(())
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.queue.shares.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has told its readers through the poisoned lock.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn work(&self) {
        while let Some(share) = self.shares.next() {
            let Some(layer) = self.layers.get(share.layer) else {
                break;
            };
            if let Err(failure) = self.fetch(layer, &share) {
                layer.settle(Err(failure));
                // The image is lost without this layer.
                self.shares.stop();
            }
        }
        if self.shares.is_stopped() {
            let stopped: Failure = Arc::new(RegistryError::Stopped);
            let settle = |layer: &Arc<Layer>| layer.settle(Err(stopped.clone()));
            self.layers.iter().for_each(settle);
        }
    }

    fn fetch(&self, layer: &Layer, share: &Share) -> Result<(), Failure> {
        let digest = layer.descriptor.digest;
        let is_first = share.range.start == 0;
        if is_first {
            self.progress.begins(&digest, layer.descriptor.size);
        }
        let mut blob = self.repository.part(&layer.descriptor, &share.range);
        let mut piece = vec![0; PIECE];
        let (mut offset, mut verified) = (share.range.start, share.range.start);
        loop {
            if self.shares.is_stopped() {
                return Err(RegistryError::Stopped.into());
            }
            let count = blob.next(&mut piece)?;
            if is_first && offset == 0 {
                self.shares
                    .answered(share.layer, blob.end() == share.range.end);
            }
            let Some(got) = piece.get(..count).filter(|got| !got.is_empty()) else {
                break;
            };
            self.progress.moves(&digest, layer.write(offset, got)?);
            offset += u64::try_from(count).unwrap_or(u64::MAX);
            if offset - verified >= VERIFIED {
                verified = offset;
                self.verify(layer)?;
            }
        }
        self.verify(layer)
    }

    /// Whoever verifies the last of a layer says that it is here, and then lets go those who wait for it.
    fn verify(&self, layer: &Layer) -> Result<(), Failure> {
        if layer.verify()? {
            self.progress.ends(&layer.descriptor.digest, false);
            layer.settle(Ok(()));
            layer.sync()?;
        }
        Ok(())
    }
}

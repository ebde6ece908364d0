//! Fetches the layers of an image in parallel into files and onto the disk, while somebody reads them from their starts.
//! Knows not what becomes of the files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::client::Repository;
use super::error::RegistryError;
use super::progress::Progress;
use crate::{Descriptor, Digest};

/// How many layers are fetched at the same time, as docker does it.
pub const PARALLEL: usize = 3;
/// How much is read from the network before it is written, in bytes.
const PIECE: usize = 256 * 1024;

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
    next: AtomicUsize,
    stop: AtomicBool,
}

/// One layer: how much of its file is written.
struct Layer {
    descriptor: Descriptor,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    written: u64,
    outcome: Option<Result<(), Failure>>,
}

/// A failure that several readers may want to know.
type Failure = Arc<RegistryError>;

/// Reads a layer from its start while it is written. The end comes only once the layer is verified.
pub struct LayerReader {
    layer: Arc<Layer>,
    offset: u64,
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
            let layer = Arc::new(Layer {
                descriptor: descriptor.clone(),
                file,
                state: Mutex::default(),
                changed: Condvar::new(),
            });
            by_digest.insert(descriptor.digest, layer.clone());
            order.push(layer);
        }
        let queue = Arc::new(Queue {
            repository: repository.clone(),
            progress: progress.clone(),
            layers: order,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let threads = (0..PARALLEL.min(queue.layers.len()))
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
                queue.stop.store(true, Ordering::Relaxed);
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
        Some(LayerReader {
            layer: self.layers.get(layer)?.clone(),
            offset: 0,
        })
    }

    /// The failure that ended a transfer, if one did. Those that were only stopped because of it do not count.
    #[must_use]
    pub fn failure(&self) -> Option<DownloadError> {
        self.queue.layers.iter().find_map(|layer| {
            let state = layer.lock();
            let failure = state.outcome.as_ref()?.as_ref().err()?;
            (!matches!(**failure, RegistryError::Stopped)).then(|| DownloadError(failure.clone()))
        })
    }

    /// Waits until every layer is complete and verified.
    ///
    /// # Errors
    /// The first failure.
    pub fn wait(&self) -> Result<(), DownloadError> {
        for layer in &self.queue.layers {
            let mut state = layer.lock();
            loop {
                match &state.outcome {
                    Some(Ok(())) => break,
                    Some(Err(failure)) => {
                        let failure = DownloadError(failure.clone());
                        drop(state);
                        return Err(self.failure().unwrap_or(failure));
                    }
                    None => {}
                }
                state = layer
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        Ok(())
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.queue.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has told its readers through the poisoned lock.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn work(&self) {
        while let Some(layer) = self.layers.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = self.fetch(layer);
            if outcome.is_err() {
                // The image is lost without this layer.
                self.stop.store(true, Ordering::Relaxed);
            }
            layer.lock().outcome = Some(outcome.map_err(Arc::new));
            layer.changed.notify_all();
        }
    }

    fn fetch(&self, layer: &Layer) -> Result<(), RegistryError> {
        let digest = layer.descriptor.digest;
        if self.stop.load(Ordering::Relaxed) {
            return Err(RegistryError::Stopped);
        }
        self.progress.begins(&digest, layer.descriptor.size);
        let mut blob = self.repository.blob(&layer.descriptor);
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(RegistryError::Stopped);
            }
            let count = blob.next(&mut piece)?;
            let Some(got) = piece.get(..count).filter(|got| !got.is_empty()) else {
                break;
            };
            layer
                .file
                .write_all_at(got, offset)
                .map_err(|source| RegistryError::Local {
                    what: format!("the file of layer {digest}"),
                    source,
                })?;
            offset += u64::try_from(count).unwrap_or(u64::MAX);
            layer.lock().written = offset;
            layer.changed.notify_all();
            self.progress.moves(&digest, offset);
        }
        // Here it costs nobody a wait but this transfer, which is over.
        layer
            .file
            .sync_data()
            .map_err(|source| RegistryError::Local {
                what: format!("the file of layer {digest}"),
                source,
            })?;
        self.progress.ends(&digest, false);
        Ok(())
    }
}

impl Layer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for LayerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.layer.lock();
        let available = loop {
            if state.written > self.offset {
                break state.written - self.offset;
            }
            match &state.outcome {
                Some(Ok(())) => return Ok(0),
                Some(Err(failure)) => return Err(io::Error::other(DownloadError(failure.clone()))),
                None => {}
            }
            state = self
                .layer
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let wanted = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(target) = buffer.get_mut(..wanted) else {
            return Ok(0);
        };
        let count = self.layer.file.read_at(target, self.offset)?;
        self.offset += u64::try_from(count).unwrap_or(u64::MAX);
        if count == 0 && wanted > 0 {
            // The file lost what was written to it: a full or broken file system.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

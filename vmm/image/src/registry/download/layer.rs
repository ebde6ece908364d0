//! One layer on its way: which parts of its file are written, how far it is verified, and who waits for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::super::error::RegistryError;
use super::DownloadError;
use crate::{Descriptor, Hasher};

/// How much is read at once to be verified, in bytes.
const LOOK: usize = 256 * 1024;

/// A failure that several readers may want to know.
pub(super) type Failure = Arc<RegistryError>;

/// A layer, its file, and how much of it is written.
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
    /// What has read the file from its start; none when the digest is known.
    verified: Mutex<(u64, Option<Hasher>)>,
}

#[derive(Default)]
struct State {
    /// All before this is written.
    written: u64,
    /// All that is written.
    received: u64,
    /// Ends of what is written beyond, by starts.
    beyond: BTreeMap<u64, u64>,
    outcome: Option<Result<(), Failure>>,
    /// All of it is on the disk.
    durable: bool,
}

impl Layer {
    pub(super) fn new(descriptor: Descriptor, file: File) -> Self {
        Self {
            descriptor,
            file,
            state: Mutex::default(),
            changed: Condvar::new(),
            verified: Mutex::new((0, Some(Hasher::new()))),
        }
    }

    /// Writes a part, and returns how much of the layer is here now.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<u64, RegistryError> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|source| self.unusable(source))?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.received += count;
        let received = state.received;
        if state.add(offset, offset + count) {
            drop(state);
            self.changed.notify_all();
        }
        Ok(received)
    }

    /// Verifies what is written without gaps and not yet verified. Says when that was the layer's end.
    pub(super) fn verify(&self) -> Result<bool, RegistryError> {
        let size = self.descriptor.size;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let (position, hasher) = &mut *verified;
        let Some(hashing) = hasher else {
            return Ok(false);
        };
        let end = self.lock().written;
        let mut bytes = vec![0; LOOK];
        while *position < end {
            let most = usize::try_from(end - *position).unwrap_or(LOOK).min(LOOK);
            let target = bytes.get_mut(..most).unwrap_or_default();
            let read = self.file.read_exact_at(target, *position);
            read.map_err(|source| self.unusable(source))?;
            hashing.update(target);
            *position += u64::try_from(most).unwrap_or(u64::MAX);
        }
        if *position < size {
            return Ok(false);
        }
        let found = hasher.take().map(Hasher::finish);
        let wanted = self.descriptor.digest;
        if let Some(found) = found.filter(|found| *found != wanted) {
            return Err(RegistryError::Digest {
                name: format!("Blob {wanted}"),
                wanted,
                found,
            });
        }
        Ok(true)
    }

    /// Brings it to the disk. Its readers have its end by then: only who waits for all of it waits for the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        let synced = self.file.sync_data();
        let synced = synced.map_err(|source| Arc::new(self.unusable(source)));
        let mut state = self.lock();
        match &synced {
            Ok(()) => state.durable = true,
            Err(failure) => state.outcome = Some(Err(failure.clone())),
        }
        drop(state);
        self.changed.notify_all();
        synced
    }

    /// Says how it ended, unless that is known.
    pub(super) fn settle(&self, outcome: Result<(), Failure>) {
        self.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// How it ended, if it did.
    pub(super) fn outcome(&self) -> Option<Result<(), Failure>> {
        self.lock().outcome.clone()
    }

    /// Waits until all of it is here, verified and on the disk.
    pub(super) fn wait(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        loop {
            match &state.outcome {
                Some(Ok(())) if !state.durable => {}
                Some(outcome) => return outcome.clone(),
                None => {}
            }
            state = self.wait_for_change(state);
        }
    }

    fn unusable(&self, source: io::Error) -> RegistryError {
        RegistryError::Local {
            what: format!("the file of layer {}", self.descriptor.digest),
            source,
        }
    }

    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes a part that is written. Whether there is more without gaps now.
    fn add(&mut self, start: u64, end: u64) -> bool {
        if start != self.written {
            // The parts of one connection follow each other.
            match self.beyond.range_mut(..start).next_back() {
                Some((_, last)) if *last == start => *last = end,
                _ => {
                    self.beyond.insert(start, end);
                }
            }
            return false;
        }
        self.written = end;
        while let Some(end) = self.beyond.remove(&self.written) {
            self.written = end;
        }
        true
    }
}

/// Reads a layer from its start while it is written. The end comes only once the layer is verified.
pub struct LayerReader {
    layer: Arc<Layer>,
    offset: u64,
}

impl LayerReader {
    pub(super) fn new(layer: Arc<Layer>) -> Self {
        Self { layer, offset: 0 }
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
            state = self.layer.wait_for_change(state);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_close_gaps_in_any_order() {
        let mut state = State::default();
        // Two connections beyond, each in two steps, then the one at the front.
        assert!(!state.add(20, 25) && !state.add(40, 50));
        assert!(!state.add(25, 40) && !state.add(50, 60));
        assert_eq!(state.beyond.len(), 2);
        assert!(state.add(0, 10) && state.written == 10);
        assert!(state.add(10, 20) && state.written == 60);
        assert!(state.beyond.is_empty());
    }
}

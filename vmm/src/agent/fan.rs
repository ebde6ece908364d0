//! Where an output stream of a container's first process goes: its log, and everybody who is attached. Knows no guest.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::Stream;

use crate::container::log::Log;

/// The log of all streams, if the container keeps one.
pub(crate) type SharedLog = Option<Arc<Mutex<Log>>>;

/// Takes one stream's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Fan {
    which: Stream,
    log: SharedLog,
    /// Held while a reader takes its time.
    attached: Arc<Mutex<Vec<Reader>>>,
    /// Who is attached from the next bytes on.
    arriving: Arc<Mutex<Vec<Reader>>>,
    /// The process is bound to nobody any more.
    released: Arc<AtomicBool>,
}

/// Who is attached.
#[derive(Debug)]
struct Reader {
    to: UnixStream,
    /// When it goes, the process is to learn that nobody reads.
    bound: bool,
}

impl Fan {
    pub(super) fn new(which: Stream, log: SharedLog) -> Self {
        Self {
            which,
            log,
            attached: Arc::default(),
            arriving: Arc::default(),
            released: Arc::default(),
        }
    }

    pub(super) fn stream(&self) -> Stream {
        self.which
    }

    /// From now on the stream goes here too.
    pub(super) fn attach(&self, to: UnixStream, bound: bool) {
        lock(&self.arriving).push(Reader { to, bound });
    }

    /// From now on anybody may go.
    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// Writes to everybody, as slow as the slowest of them. Who has gone is forgotten, which is an error if the process was
    /// bound to it; a log that cannot be written goes without these lines.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(log) = &self.log {
            let _ = lock(log).write(self.which, bytes);
        }
        let mut result = Ok(());
        let mut attached = lock(&self.attached);
        attached.append(&mut lock(&self.arriving));
        attached.retain_mut(|reader| match reader.to.write_all(bytes) {
            Ok(()) => true,
            Err(error) => {
                if reader.bound && !self.released.load(Ordering::Relaxed) {
                    result = Err(error);
                }
                false
            }
        });
        result
    }

    /// The stream has ended.
    pub(super) fn close(&self) {
        if let Some(log) = &self.log {
            let _ = lock(log).finish(self.which);
        }
        lock(&self.arriving).clear();
        lock(&self.attached).clear();
    }
}

/// What a thread that panicked has left is still whole: bytes and descriptors.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

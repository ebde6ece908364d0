//! Where an output stream of a container's first process goes: its log, and everybody who is attached. Knows no guest.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
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
    attached: Arc<Mutex<Vec<Reader>>>,
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
        }
    }

    pub(super) fn stream(&self) -> Stream {
        self.which
    }

    /// From now on the stream goes here too.
    pub(super) fn attach(&self, to: UnixStream, bound: bool) {
        lock(&self.attached).push(Reader { to, bound });
    }

    /// Writes to everybody, as slow as the slowest of them. Who has gone is forgotten, which is an error if the process was
    /// bound to it; a log that cannot be written goes without these lines.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(log) = &self.log {
            let _ = lock(log).write(self.which, bytes);
        }
        let mut result = Ok(());
        lock(&self.attached).retain_mut(|reader| match reader.to.write_all(bytes) {
            Ok(()) => true,
            Err(error) => {
                if reader.bound {
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
        lock(&self.attached).clear();
    }
}

/// What a thread that panicked has left is still whole: bytes and descriptors.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What a stack writes down: where its guest was not let go, and how much passed. Into two files that somebody else opened; who
//! reads them is no business of this module.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::time::{ClockId, clock_gettime};

/// Most bytes of a log; then a guest has said enough.
const MOST_LOG: usize = 1 << 20;
/// Bytes of the counts' file.
const COUNTS: usize = 32;

/// The files of a journal.
#[derive(Debug)]
pub struct Files {
    /// Lines are appended here: it must be open for that.
    pub log: OwnedFd,
    /// The counts are written here, always in the same place.
    pub counts: OwnedFd,
}

/// How much has passed since the stack was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of frames from the guest.
    pub sent: u64,
    /// Bytes of frames for the guest.
    pub received: u64,
    /// Connections and flows of datagrams that were made.
    pub flows: u64,
    /// How often the guest was not let go where it wanted.
    pub denied: u64,
}

impl Counts {
    /// What a counts' file says; nothing if it says none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; COUNTS] = bytes.get(..COUNTS)?.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [sent, received, flows, denied] = *words else {
            return None;
        };
        Some(Self {
            sent: u64::from_le_bytes(sent),
            received: u64::from_le_bytes(received),
            flows: u64::from_le_bytes(flows),
            denied: u64::from_le_bytes(denied),
        })
    }

    fn bytes(&self) -> [[u8; 8]; 4] {
        [self.sent, self.received, self.flows, self.denied].map(u64::to_le_bytes)
    }
}

/// Where a guest was not let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Echo(IpAddr),
    Name(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(place) => write!(out, "tcp {place}"),
            Self::Udp(place) => write!(out, "udp {place}"),
            Self::Echo(place) => write!(out, "echo {place}"),
            // The guest chose it.
            Self::Name(name) => write!(out, "name {}", name.escape_default()),
        }
    }
}

/// The journal of a stack, if it has files.
#[derive(Debug)]
pub(crate) struct Journal {
    files: Option<Files>,
    pub(crate) counts: Counts,
    written: Counts,
    log: usize,
    last: Option<Denied>,
}

impl Journal {
    pub(crate) fn new(files: Option<Files>) -> Self {
        Self {
            files,
            counts: Counts::default(),
            written: Counts::default(),
            log: 0,
            last: None,
        }
    }

    /// The guest was not let go there. Said once for each time it insists on the same place.
    pub(crate) fn denied(&mut self, place: Denied) {
        self.counts.denied = self.counts.denied.saturating_add(1);
        if self.last.as_ref() == Some(&place) {
            return;
        }
        let line = format!("{} {place}\n", clock_gettime(ClockId::Realtime).tv_sec);
        self.last = Some(place);
        let length = self.log.saturating_add(line.len());
        if let Some(files) = self.files.as_ref().filter(|_| length <= MOST_LOG) {
            self.log = length;
            // A full disk loses it.
            let _ = rustix::io::write(&files.log, line.as_bytes());
        }
    }

    /// Whether there is something to [`write`](Self::write).
    pub(crate) fn is_behind(&self) -> bool {
        self.files.is_some() && self.counts != self.written
    }

    /// Writes the counts.
    pub(crate) fn write(&mut self) {
        if let Some(files) = self.files.as_ref().filter(|_| self.counts != self.written) {
            let bytes = self.counts.bytes();
            let done: io::Result<usize> =
                rustix::io::pwrite(&files.counts, bytes.as_flattened(), 0).map_err(Into::into);
            if done.is_ok() {
                self.written = self.counts;
            }
        }
    }
}

#[cfg(test)]
mod tests;

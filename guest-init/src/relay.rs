//! Bytes carried by hand between two descriptors that do not block. Knows nothing of what they are.

use alloc::vec::Vec;

use rustix::buffer::spare_capacity;
use rustix::fd::AsFd;
use rustix::io::Errno;

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// What was read and not yet written.
#[derive(Debug, Default)]
pub struct Relay {
    held: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// Whether the source had nothing when last asked.
    source_empty: bool,
}

impl Relay {
    /// Reads once if nothing is held, then writes once; how many bytes moved on, 0 at the source's end.
    ///
    /// # Errors
    /// `AGAIN` where one side is not ready, and whatever else the two answer.
    pub fn carry(&mut self, from: impl AsFd, to: impl AsFd) -> Result<usize, Errno> {
        if self.held.is_empty() {
            self.held.reserve(CHUNK);
            let read = rustix::io::read(from, spare_capacity(&mut self.held));
            self.source_empty = read == Err(Errno::AGAIN);
            if read? == 0 {
                return Ok(0);
            }
        }
        let written = rustix::io::write(to, self.held.get(self.written..).unwrap_or_default())?;
        self.written += written;
        if self.written >= self.held.len() {
            self.held.clear();
            self.written = 0;
        }
        Ok(written)
    }

    /// Whether all that came was passed on, and no more was there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.source_empty && self.held.is_empty()
    }
}

#[cfg(test)]
mod tests;

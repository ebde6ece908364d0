//! What a tar can be read from.

use std::io::{self, BufRead};

/// What a tar is read from: buffered bytes that can be passed over.
pub trait Input: BufRead {
    /// Passes over `count` bytes; an end before that is [`io::ErrorKind::UnexpectedEof`].
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let there = self.fill_buf()?.len();
            if there == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(there);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}

impl Input for &[u8] {}

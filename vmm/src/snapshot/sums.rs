//! What the files of a snapshot come to, so that damage is found by whoever wants to read all of them. A start does not: it reads
//! of memory what its guest touches.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::sparse::{self, ZEROS};
use crate::sys::PAGE;

/// Bytes read at a time.
const BATCH: usize = 256 * PAGE;

/// A sum that any change of a single word changes: it is to find damage, not forgery. Whoever may write the file may write
/// the sum.
#[derive(Debug, Default)]
pub(super) struct Sum(u64);

impl Sum {
    fn word(&mut self, word: u64) {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ word).wrapping_mul(FACTOR).rotate_left(29);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        for word in words.iter().chain([&last]) {
            self.word(u64::from_le_bytes(*word));
        }
        self.word(bytes.len() as u64);
    }

    pub(super) fn finish(self) -> u64 {
        self.0
    }
}

/// Sums of the files beside `container`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(super) machine: u64,
    pub(super) memory: u64,
    /// 0 where there is no disk.
    pub(super) disk: u64,
}

/// A file's sum: of its length, and of each page that is not zeros with its number; so holes are as good as zeros.
pub(super) fn of_file(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut sum = Sum::default();
    let mut buffer = vec![0; BATCH];
    for range in sparse::ranges(file, PAGE as u64)? {
        let (mut at, end) = (range.start, range.end.min(length));
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(BATCH).min(BATCH);
            let piece = buffer.get_mut(..most).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            for (number, page) in (at / PAGE as u64..).zip(piece.chunks(PAGE)) {
                if page != ZEROS {
                    sum.word(number);
                    sum.bytes(page);
                }
            }
            at += most as u64;
        }
    }
    sum.word(length);
    Ok(sum.finish())
}

#[cfg(test)]
mod tests;

//! The checksum of an image, made while it is written: by pieces, so that what is skipped, discarded or written late costs
//! a second look at its own pieces and at no others.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use flate2::Crc;

/// Length of a piece, in bytes: 16 bytes are kept of each.
const PIECE: u64 = 1 << 20;

/// CRC-32 of a file that is written from its front to its end, mostly.
#[derive(Default)]
pub(super) struct Sums {
    /// Those of whole pieces by number. One that is missing has to be read again.
    whole: HashMap<u64, Crc>,
    /// Of the piece under way; none when something is missing in it.
    current: Option<Crc>,
    /// All before this is written, skipped or to be read again.
    position: u64,
}

impl Sums {
    /// Notes `bytes` written at `offset`, which is behind all written until now.
    pub(super) fn add(&mut self, offset: u64, mut bytes: &[u8]) {
        if offset != self.position {
            self.position = offset;
            self.current = None;
        }
        while !bytes.is_empty() {
            let inside = self.position % PIECE;
            if inside == 0 {
                self.current = Some(Crc::new());
            }
            let room = usize::try_from(PIECE - inside).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(current) = &mut self.current {
                current.update(now);
            }
            let piece = self.position / PIECE;
            self.position += now.len() as u64;
            if self.position.is_multiple_of(PIECE)
                && let Some(current) = self.current.take()
            {
                self.whole.insert(piece, current);
            }
            bytes = later;
        }
    }

    /// Notes that `length` bytes at `start`, all written before, are others now.
    pub(super) fn forget(&mut self, start: u64, length: u64) {
        let end = start + length;
        for piece in start / PIECE..end.div_ceil(PIECE) {
            self.whole.remove(&piece);
        }
        if end > self.position - self.position % PIECE {
            self.current = None;
        }
    }

    /// The sum of the first `length` bytes of the file.
    pub(super) fn finish(mut self, file: &File, length: u64) -> io::Result<u32> {
        let mut sum = Crc::new();
        let mut bytes = Vec::new();
        let rest = self.current.take().filter(|_| self.position == length);
        for piece in 0..length.div_ceil(PIECE) {
            let start = piece * PIECE;
            let end = (start + PIECE).min(length);
            let known = match end - start {
                PIECE => self.whole.get(&piece),
                _ => rest.as_ref(),
            };
            if let Some(known) = known {
                sum.combine(known);
                continue;
            }
            bytes.resize(usize::try_from(end - start).unwrap_or_default(), 0);
            file.read_exact_at(&mut bytes, start)?;
            sum.update(&bytes);
        }
        Ok(sum.sum())
    }
}

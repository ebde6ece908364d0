//! Reads tar archives: ustar, GNU, PAX and star, in one pass and bounded memory. Names are raw bytes.
//!
//! Knows the format only: what a name means, and whether it is allowed, is the caller's business.
//! Where readers of tar differ, this one does what Go's `archive/tar` does, for layers are defined
//! by the tools written in Go. Length fields are never believed further than the bounds below.

mod error;
mod header;
mod input;
mod pax;
mod sparse;
mod write;

use std::io;

pub use error::TarError;
use header::{BLOCK, Header};
pub use input::Input;
pub use sparse::{MAX_SEGMENTS, Segment};
pub use write::header;

/// Longest extended header (PAX records, GNU long name), in bytes. Go's bound is the same.
const MAX_EXTENSION: u64 = 1 << 20;
/// Longest path or link target, in bytes: Linux' PATH_MAX without the final NUL.
const MAX_PATH: usize = 4095;
/// Longest extended attribute value EROFS can hold, in bytes.
const MAX_XATTR: usize = u16::MAX as usize;

/// A point in time: seconds since 1970 and nanoseconds after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Time {
    /// Since 1970; before it, backwards.
    pub seconds: i64,
    /// After that, forwards.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes. `map` lists where its stored data goes if it has holes.
    File {
        /// With its holes.
        size: u64,
        /// Nothing means that all of it is stored.
        map: Option<Vec<Segment>>,
    },
    /// A directory.
    Directory,
    /// Target as written.
    Symlink(Vec<u8>),
    /// Path of the entry this one is another name of.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Its driver.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its driver.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One entry's header, extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it stands there, without the slash of a directory.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of the last change.
    pub mtime: Time,
    /// Full names and values, in the order of the archive.
    pub xattrs: Xattrs,
}

/// Full names and values of extended attributes.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes taken from `input`.
    position: u64,
    /// Stored data of the present entry not yet taken.
    remaining: u64,
    /// Zeros behind it up to the next block.
    padding: u64,
}

impl<R: Input> Reader<R> {
    /// At the archive's beginning.
    pub fn new(input: R) -> Self {
        Self {
            input,
            position: 0,
            remaining: 0,
            padding: 0,
        }
    }

    /// Where the stored data of the present entry starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; data of the one before that was not taken is passed over.
    ///
    /// # Errors
    /// When the archive is damaged or cannot be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives is not all: the data follows"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = pax::Records::default();
        let mut long_name = None;
        let mut long_link = None;
        loop {
            self.skip_rest()?;
            let at = self.position;
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let header = Header::check(block, at)?;
            let size = header.size()?;
            match header.kind() {
                b'x' | b'X' => extended = pax::Records::parse(&self.extension(at, size)?, at)?,
                // Global records: Go passes over them, and so do all that unpack layers.
                b'g' => drop(self.extension(at, size)?),
                b'L' => long_name = Some(self.long(at, size)?),
                b'K' => long_link = Some(self.long(at, size)?),
                b'V' => self.stored(size),
                _ => {
                    return self
                        .entry(&header, extended, long_name, long_link)
                        .map(Some);
                }
            }
        }
    }

    /// The next piece of the present entry's stored data; empty at its end. [`Self::consume`] takes it.
    ///
    /// # Errors
    /// When the archive is cut short or cannot be read.
    pub fn data(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let position = self.position;
        let piece = self.input.fill_buf()?;
        if piece.is_empty() {
            return Err(TarError::Truncated(position));
        }
        let most = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(piece.len());
        Ok(piece.get(..most).unwrap_or_default())
    }

    /// Takes `count` bytes of what [`Self::data`] showed.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.position = self.position.saturating_add(count as u64);
        self.remaining = self.remaining.saturating_sub(count as u64);
    }

    /// Reads what follows the end mark: it belongs to the archive's digest.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let count = self.input.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            self.input.consume(count);
        }
    }

    fn stored(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let end = self.position.checked_add(self.remaining);
        let end = end.ok_or(TarError::Truncated(self.position))?;
        let skipped = self.input.skip(self.remaining);
        skipped.map_err(|error| self.cut(error))?;
        self.position = end;
        // Some writers end right after the last file's data.
        while self.padding > 0 {
            let there = self.input.fill_buf()?.len() as u64;
            let step = there.min(self.padding);
            if step == 0 {
                break;
            }
            self.input
                .consume(usize::try_from(step).unwrap_or(usize::MAX));
            self.position = self.position.saturating_add(step);
            self.padding -= step;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn cut(&self, error: io::Error) -> TarError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated(self.position),
            _ => TarError::Read(error),
        }
    }

    /// One block, or none where the input ends exactly here.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut rest: &mut [u8] = &mut block;
        while !rest.is_empty() {
            let piece = self.input.fill_buf()?;
            let count = piece.len().min(rest.len());
            if count == 0 {
                return match rest.len() {
                    BLOCK => Ok(None),
                    _ => Err(TarError::Truncated(self.position)),
                };
            }
            let (now, later) = rest.split_at_mut(count);
            now.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            rest = later;
            self.input.consume(count);
            self.position = self.position.saturating_add(count as u64);
        }
        Ok(Some(block))
    }

    /// The next header; none at the two zero blocks, or the one, or none, that end an archive.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(second) if second.iter().any(|byte| *byte != 0) => {
                Err(TarError::Checksum(self.position - BLOCK as u64))
            }
            _ => Ok(None),
        }
    }

    /// The whole data of an extended header.
    fn extension(&mut self, at: u64, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::Extension { at, bytes: size });
        }
        self.stored(size);
        let mut bytes = Vec::new();
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            let count = piece.len();
            self.consume(count);
        }
    }

    /// A GNU long name: up to its NUL.
    fn long(&mut self, at: u64, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(at, size)?;
        name.truncate(
            name.iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len()),
        );
        Ok(name)
    }

    /// Puts a header and what was said before it together.
    fn entry(
        &mut self,
        header: &Header,
        extended: pax::Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let at = header.at;
        let stored = match extended.size {
            Some(size) => size,
            None => header.size()?,
        };
        let path = extended.path.or(long_name).unwrap_or_else(|| header.path());
        let link = extended.link.or(long_link).unwrap_or_else(|| header.link());
        let mut path = extended.sparse.name.clone().unwrap_or(path);
        for name in [&path, &link] {
            if name.len() > MAX_PATH {
                return Err(TarError::Name {
                    at,
                    bytes: name.len(),
                });
            }
        }
        let flag = match header.kind() {
            0 if path.ends_with(b"/") => b'5',
            0 | b'7' => b'0',
            flag => flag,
        };
        // As in Go, only files have data, whatever the size field says.
        self.stored(if matches!(flag, b'1'..=b'6') {
            0
        } else {
            stored
        });
        let kind = match flag {
            b'0' if extended.sparse.is_some() => {
                let (size, map) = extended.sparse.map(self, at)?;
                Kind::File {
                    size,
                    map: Some(map),
                }
            }
            b'0' => Kind::File {
                size: stored,
                map: None,
            },
            b'S' => {
                let (size, map) = sparse::old_gnu(header, self)?;
                Kind::File {
                    size,
                    map: Some(map),
                }
            }
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::CharDevice {
                major: header.major()?,
                minor: header.minor()?,
            },
            b'4' => Kind::BlockDevice {
                major: header.major()?,
                minor: header.minor()?,
            },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            // GNU's dumped directory: a directory whose data is a listing.
            b'D' => Kind::Directory,
            other => {
                return Err(TarError::Kind {
                    at,
                    kind: char::from(other),
                });
            }
        };
        if let Kind::File {
            map: Some(map),
            size,
        } = &kind
        {
            sparse::check(map, *size, self.remaining, at)?;
        }
        if let Kind::Directory = kind {
            while path.len() > 1 && path.ends_with(b"/") {
                path.pop();
            }
        }
        Ok(Entry {
            path,
            kind,
            mode: header.mode()?,
            uid: extended.uid.map_or_else(|| header.uid(), Ok)?,
            gid: extended.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: match extended.mtime {
                Some(time) => time,
                None => Time {
                    seconds: header.mtime()?,
                    nanoseconds: 0,
                },
            },
            xattrs: extended.xattrs,
        })
    }
}

#[cfg(test)]
mod tests;

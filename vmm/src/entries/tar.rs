//! Entries out of and into a tar archive.

use std::io::{self, BufRead, BufReader, Read, Write};

use image::archive::{self, Input, Kind, Reader, Segment, Time};
use protocol::{Bytes, Entry, EntryKind, Item};

use super::{CopyError, Keep, components};

/// Unit of a tar's blocks.
const BLOCK: usize = 512;

/// Writes one entry and its content, its path below `prefix`.
pub(crate) fn write(
    out: &mut dyn Write,
    prefix: &[u8],
    entry: Entry,
    content: &mut dyn Read,
) -> Result<(), CopyError> {
    let path = below(prefix, &entry.path);
    if path.is_empty() {
        // The root of all, which has no name.
        return Ok(());
    }
    let size = match entry.kind {
        EntryKind::File { size } => size,
        _ => 0,
    };
    let header = archive::header(&archive::Entry {
        path: match entry.kind {
            EntryKind::Directory => [&path, &b"/"[..]].concat(),
            _ => path,
        },
        kind: match entry.kind {
            EntryKind::File { size } => Kind::File { size, map: None },
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink(target) => Kind::Symlink(target.0),
            EntryKind::HardLink(target) => Kind::HardLink(below(prefix, &target)),
            EntryKind::Character(major, minor) => Kind::CharDevice { major, minor },
            EntryKind::Block(major, minor) => Kind::BlockDevice { major, minor },
            EntryKind::Fifo => Kind::Fifo,
        },
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Time {
            seconds: entry.seconds,
            nanoseconds: entry.nanoseconds.min(999_999_999),
        },
        xattrs: (entry.attributes.into_iter())
            .map(|(name, value)| (name.0, value.0))
            .collect(),
    });
    let failed = |source| CopyError::File {
        doing: "Writing",
        path: "the archive".into(),
        source,
    };
    out.write_all(&header).map_err(failed)?;
    pass(content, size, |piece| out.write_all(piece).map_err(failed))?;
    let padding = size.wrapping_neg() % BLOCK as u64;
    let zeros = [0; BLOCK];
    let padding = zeros.get(..usize::try_from(padding).unwrap_or(0));
    out.write_all(padding.unwrap_or_default()).map_err(failed)
}

/// The two blocks of zeros that end an archive.
pub(crate) fn end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()
}

fn below(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    match prefix.is_empty() || path.is_empty() {
        true => [prefix, path].concat(),
        false => [prefix, b"/", path].concat(),
    }
}

/// Passes so many bytes on in pieces.
pub(super) fn pass(
    from: &mut dyn Read,
    mut left: u64,
    mut to: impl FnMut(&[u8]) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let room = buffer.get_mut(..most).unwrap_or_default();
        let count = match from.read(room) {
            Ok(0) => return Err(CopyError::Stream(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(CopyError::Stream)?,
        };
        to(room.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    Ok(())
}

/// Whatever an archive is read from.
pub(crate) struct Buffered<'a>(BufReader<Box<dyn Read + 'a>>);

impl<'a> Buffered<'a> {
    pub(crate) fn new(from: impl Read + 'a) -> Self {
        Self(BufReader::with_capacity(64 << 10, Box::new(from)))
    }
}

impl Read for Buffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Buffered<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl Input for Buffered<'_> {}

/// Sends what is in an archive.
pub(crate) fn send(from: impl Read, keep: Keep, to: &mut dyn Write) -> Result<(), CopyError> {
    let mut reader = Reader::new(Buffered::new(from));
    while let Some(entry) = reader.next()? {
        let Some(path) = relative(&entry.path)? else {
            continue;
        };
        let (kind, map) = match entry.kind {
            Kind::File { size, map } => (EntryKind::File { size }, map),
            Kind::Directory => (EntryKind::Directory, None),
            Kind::Symlink(target) => (EntryKind::Symlink(Bytes(target)), None),
            Kind::HardLink(target) => match relative(&target)? {
                Some(target) => (EntryKind::HardLink(target), None),
                None => continue,
            },
            Kind::CharDevice { major, minor } => (EntryKind::Character(major, minor), None),
            Kind::BlockDevice { major, minor } => (EntryKind::Block(major, minor), None),
            Kind::Fifo => (EntryKind::Fifo, None),
        };
        let size = match kind {
            EntryKind::File { size } => size,
            _ => 0,
        };
        put(
            to,
            &Item::Entry(Entry {
                path,
                kind,
                mode: entry.mode,
                uid: if keep.owner { entry.uid } else { 0 },
                gid: if keep.owner { entry.gid } else { 0 },
                seconds: entry.mtime.seconds,
                nanoseconds: entry.mtime.nanoseconds,
                attributes: (entry.xattrs.into_iter())
                    .map(|(name, value)| (Bytes(name), Bytes(value)))
                    .collect(),
            }),
        )?;
        content(&mut reader, size, map, to)?;
    }
    put(to, &Item::End)
}

/// Sends an item.
pub(crate) fn put(to: &mut dyn Write, item: &Item) -> Result<(), CopyError> {
    let frame = protocol::encode(item)?;
    to.write_all(&frame).map_err(CopyError::Stream)
}

/// The content of a file with its holes filled.
fn content<R: Input>(
    reader: &mut Reader<R>,
    size: u64,
    map: Option<Vec<Segment>>,
    to: &mut dyn Write,
) -> Result<(), CopyError> {
    let whole = Segment {
        offset: 0,
        length: size,
    };
    let mut at = 0;
    for Segment { offset, length } in map.unwrap_or_else(|| vec![whole]) {
        zeros(offset.saturating_sub(at), to)?;
        let mut left = length;
        while left > 0 {
            let piece = reader.data()?;
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = piece.get(..most).unwrap_or(piece);
            if piece.is_empty() {
                return Err(CopyError::Stream(io::ErrorKind::UnexpectedEof.into()));
            }
            to.write_all(piece).map_err(CopyError::Stream)?;
            let count = piece.len();
            reader.consume(count);
            left -= count as u64;
        }
        at = offset.saturating_add(length);
    }
    zeros(size.saturating_sub(at), to)
}

fn zeros(count: u64, to: &mut dyn Write) -> Result<(), CopyError> {
    let copied = io::copy(&mut io::repeat(0).take(count), to);
    copied.map(drop).map_err(CopyError::Stream)
}

/// A path of an archive as guest init takes it; nothing for the archive's own root.
fn relative(path: &[u8]) -> Result<Option<Bytes>, CopyError> {
    let dot = |name: &&[u8]| *name != b".";
    let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(dot).collect();
    let path = path.join(&b'/');
    let path = components(&path)?.join(&b'/');
    Ok((!path.is_empty()).then_some(Bytes(path)))
}

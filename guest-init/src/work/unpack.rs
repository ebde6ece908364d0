//! A stream of entries into files. It works where init is, in the container's root, so that no link and no name leads
//! anywhere else.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use protocol::{Entry, EntryKind, Item};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;

use super::{In, failed, join, write_all};

/// Directories whose times are set when all that is in them is there.
type Late = Vec<(Vec<u8>, Timestamps)>;

pub(super) fn unpack(mut input: In<'_>, path: &[u8], name: &[u8]) -> Result<(), String> {
    let mut top = None;
    let mut late = Late::new();
    loop {
        let entry = match input.item()? {
            Item::Entry(entry) => entry,
            Item::End => break,
            _ => return Err("Standard input is malformed".to_string()),
        };
        let top = match &top {
            Some(top) => top,
            None => top.insert(place(path, name, &entry)?),
        };
        let at = join(top, &entry.path);
        let is_top = entry.path.is_empty();
        let linked = match &entry.kind {
            EntryKind::HardLink(target) => join(top, target),
            _ => Vec::new(),
        };
        make(&mut input, &at, &linked, &entry, is_top, &mut late)
            .map_err(|error| error.told(&at))?;
    }
    for (path, times) in late.iter().rev() {
        let _ = rustix::fs::utimensat(CWD, path.as_slice(), times, AtFlags::SYMLINK_NOFOLLOW);
    }
    Ok(())
}

/// Where the first entry goes: as cp(1) does it.
fn place(path: &[u8], name: &[u8], first: &Entry) -> Result<Vec<u8>, String> {
    let directory = matches!(first.kind, EntryKind::Directory);
    let there = rustix::fs::stat(path);
    let is_directory = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
    match there {
        Ok(status) if is_directory(status.st_mode) => Ok(join(path, name)),
        // Entries with names of their own go into a directory.
        _ if !first.path.is_empty() => {
            Err(failed("enter", path, there.err().unwrap_or(Errno::NOTDIR)))
        }
        Ok(_) if directory || path.ends_with(b"/") => Err(failed("enter", path, Errno::NOTDIR)),
        Err(Errno::NOENT) if path.ends_with(b"/") && !directory => {
            Err(failed("enter", path, Errno::NOENT))
        }
        Ok(_) | Err(Errno::NOENT) => {
            let end = path
                .iter()
                .rposition(|byte| *byte != b'/')
                .map_or(0, |at| at + 1);
            Ok(path.get(..end).unwrap_or(path).to_vec())
        }
        Err(errno) => Err(failed("find", path, errno)),
    }
}

/// Why an entry could not be made.
enum Refusal {
    System(Errno),
    Input(String),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl Refusal {
    fn told(self, path: &[u8]) -> String {
        match self {
            Self::System(errno) => failed("write", path, errno),
            Self::Input(text) => text,
        }
    }
}

fn make(
    input: &mut In<'_>,
    path: &[u8],
    linked: &[u8],
    entry: &Entry,
    is_top: bool,
    late: &mut Late,
) -> Result<(), Refusal> {
    if let EntryKind::Directory = entry.kind {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // A link to a directory is one, as for cp.
                let mode = rustix::fs::stat(path)?.st_mode;
                if FileType::from_raw_mode(mode) != FileType::Directory {
                    return Err(Errno::NOTDIR.into());
                }
                // What is there stays as it is.
                if is_top {
                    return Ok(());
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        late.push((path.to_vec(), times(entry)));
        return dress(path, entry);
    }
    if let EntryKind::File { size } = entry.kind {
        file(input, path, size)?;
        return dress(path, entry);
    }
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let node = |kind, major, minor| {
        let mode = Mode::from_raw_mode(entry.mode.into());
        rustix::fs::mknodat(CWD, path, kind, mode, makedev(major, minor))
    };
    match &entry.kind {
        EntryKind::Symlink(target) => rustix::fs::symlink(&**target, path)?,
        EntryKind::HardLink(_) => {
            rustix::fs::linkat(CWD, linked, CWD, path, AtFlags::empty())?;
            return Ok(());
        }
        EntryKind::Character(major, minor) => node(FileType::CharacterDevice, *major, *minor)?,
        EntryKind::Block(major, minor) => node(FileType::BlockDevice, *major, *minor)?,
        EntryKind::Fifo => node(FileType::Fifo, 0, 0)?,
        EntryKind::File { .. } | EntryKind::Directory => {}
    }
    dress(path, entry)
}

/// A file anew. One that is a mount of its own cannot be: it is written over.
fn file(input: &mut In<'_>, path: &[u8], size: u64) -> Result<(), Refusal> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => OFlags::CREATE | OFlags::EXCL,
        Err(Errno::BUSY) => OFlags::TRUNC,
        Err(errno) => return Err(errno.into()),
    };
    let file = rustix::fs::open(path, flags | new, Mode::from_raw_mode(0o600))?;
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let piece = input.some(most).map_err(Refusal::Input)?;
        write_all(&file, piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

/// Owner, mode, attributes and times, in an order in which none undoes another.
fn dress(path: &[u8], entry: &Entry) -> Result<(), Refusal> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let link = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), link)?;
    if !matches!(entry.kind, EntryKind::Symlink(_)) {
        rustix::fs::chmod(path, Mode::from_raw_mode(entry.mode.into()))?;
    }
    for (name, value) in &entry.attributes {
        match rustix::fs::lsetxattr(path, &**name, value, XattrFlags::empty()) {
            // A file system without them, or one of the kernel's own.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(rustix::fs::utimensat(CWD, path, &times(entry), link)?)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.seconds,
        tv_nsec: entry.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

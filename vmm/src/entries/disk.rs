//! Entries out of and into the host's file system. What a guest sends is written below one directory: each step on the way
//! is opened without following a link, so that no name and no link of a guest leads elsewhere.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use protocol::{Bytes, Entry, EntryKind, Item};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::tar::{pass, put};
use super::{CopyError, Keep, components};

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::File {
        doing,
        path,
        source,
    }
}

/// Sends a file, or a directory with all that is in it.
pub(crate) fn send(
    path: &Path,
    follow: bool,
    keep: Keep,
    to: &mut dyn Write,
) -> Result<(), CopyError> {
    let mut walk = Walk {
        keep,
        linked: HashMap::new(),
        to,
    };
    walk.visit(path, b"", follow)?;
    put(to, &Item::End)
}

struct Walk<'a> {
    keep: Keep,
    /// Files with several names, and the first of those here.
    linked: HashMap<(u64, u64), Vec<u8>>,
    to: &'a mut dyn Write,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path, below: &[u8], follow: bool) -> Result<(), CopyError> {
        let data = match follow {
            true => fs::metadata(path),
            false => fs::symlink_metadata(path),
        };
        let data = data.map_err(failed("Reading", path))?;
        let kind = data.file_type();
        let number = (data.dev(), data.ino());
        let device = |data: &fs::Metadata| {
            let number = data.rdev();
            (rustix::fs::major(number), rustix::fs::minor(number))
        };
        let known = (data.nlink() > 1 && !kind.is_dir()).then(|| self.linked.get(&number));
        let kind = match known.flatten() {
            Some(first) => EntryKind::HardLink(Bytes(first.clone())),
            None if kind.is_file() => EntryKind::File { size: data.len() },
            None if kind.is_dir() => EntryKind::Directory,
            None if kind.is_symlink() => {
                let target = fs::read_link(path).map_err(failed("Reading", path))?;
                EntryKind::Symlink(Bytes(target.into_os_string().into_vec()))
            }
            None if kind.is_char_device() => {
                let (major, minor) = device(&data);
                EntryKind::Character(major, minor)
            }
            None if kind.is_block_device() => {
                let (major, minor) = device(&data);
                EntryKind::Block(major, minor)
            }
            None if kind.is_fifo() => EntryKind::Fifo,
            // A socket, which no archive has either.
            None => return Ok(()),
        };
        if data.nlink() > 1 && !data.is_dir() {
            self.linked.entry(number).or_insert_with(|| below.to_vec());
        }
        let mut entry = Entry {
            path: below.into(),
            mode: u16::try_from(data.mode() & 0o7777).unwrap_or(0),
            uid: if self.keep.owner { data.uid() } else { 0 },
            gid: if self.keep.owner { data.gid() } else { 0 },
            seconds: data.mtime(),
            nanoseconds: u32::try_from(data.mtime_nsec()).unwrap_or(0),
            attributes: Vec::new(),
            kind,
        };
        match entry.kind {
            EntryKind::File { .. } => {
                let mut file = File::open(path).map_err(failed("Opening", path))?;
                let size = file.metadata().map_err(failed("Reading", path))?.len();
                entry.kind = EntryKind::File { size };
                put(self.to, &Item::Entry(entry))?;
                // One that is cut meanwhile has zeros at its end.
                let mut content = Read::by_ref(&mut file).chain(io::repeat(0));
                pass(&mut content, size, |piece| {
                    self.to.write_all(piece).map_err(CopyError::Stream)
                })
            }
            EntryKind::Directory => {
                put(self.to, &Item::Entry(entry))?;
                let list = fs::read_dir(path).map_err(failed("Reading", path))?;
                let mut names = list
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<io::Result<Vec<_>>>()
                    .map_err(failed("Reading", path))?;
                names.sort_unstable();
                for name in names {
                    let slash: &[u8] = if below.is_empty() { b"" } else { b"/" };
                    let further = [below, slash, name.as_bytes()].concat();
                    self.visit(&path.join(&name), &further, false)?;
                }
                Ok(())
            }
            _ => put(self.to, &Item::Entry(entry)),
        }
    }
}

/// Takes entries into the host's file system.
#[derive(Debug)]
pub(crate) struct Taker<'a> {
    /// Where the first entry goes, or below which.
    to: &'a Path,
    /// What the first entry is called below it; empty for what is in it.
    name: &'a [u8],
    keep: Keep,
    top: Option<Top>,
    /// Directories whose mode and times are set when all is there.
    late: Vec<(Vec<u8>, Mode, Timestamps)>,
}

/// Where all goes: a directory that is open, and the first entry's name in it.
#[derive(Debug)]
struct Top {
    parent: OwnedFd,
    name: Vec<u8>,
}

impl<'a> Taker<'a> {
    pub(crate) fn new(to: &'a Path, name: &'a [u8], keep: Keep) -> Self {
        Self {
            to,
            name,
            keep,
            top: None,
            late: Vec::new(),
        }
    }

    /// Makes one entry.
    pub(crate) fn take(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), CopyError> {
        let names = components(&entry.path)?;
        let top = match self.top.take() {
            Some(top) => top,
            None => place(self.to, self.name, entry)?,
        };
        let made = self.make(&top, entry, &names, content);
        self.top = Some(top);
        made
    }

    fn make(
        &mut self,
        top: &Top,
        entry: &Entry,
        names: &[&[u8]],
        content: &mut dyn Read,
    ) -> Result<(), CopyError> {
        let shown = || self.to.join(std::ffi::OsStr::from_bytes(&entry.path));
        let refused = |errno: Errno| failed("Writing", &shown())(errno.into());
        let (parent, name) = walk(top, names).map_err(refused)?;
        let there = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW);
        let kind = there.map(|data| FileType::from_raw_mode(data.st_mode));
        if let EntryKind::Directory = entry.kind {
            match kind {
                Ok(FileType::Directory) => return Ok(()),
                Ok(_) => return Err(refused(Errno::NOTDIR)),
                Err(_) => rustix::fs::mkdirat(&parent, &name, Mode::RWXU).map_err(refused)?,
            }
            let mode = self.mode(entry);
            self.late.push((names.join(&b'/'), mode, times(entry)));
            return self.own(&parent, &name, entry).map_err(refused);
        }
        match kind {
            Ok(FileType::Directory) => return Err(refused(Errno::ISDIR)),
            Ok(_) => rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).map_err(refused)?,
            Err(_) => {}
        }
        match &entry.kind {
            EntryKind::File { size } => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let owner = Mode::RUSR | Mode::WUSR;
                let file = rustix::fs::openat(&parent, &name, flags, owner).map_err(refused)?;
                let mut file = File::from(file);
                let path = shown();
                pass(content, *size, |piece| {
                    file.write_all(piece).map_err(failed("Writing", &path))
                })?;
                self.own(&parent, &name, entry).map_err(refused)?;
                rustix::fs::fchmod(&file, self.mode(entry)).map_err(refused)?;
                rustix::fs::futimens(&file, &times(entry)).map_err(refused)
            }
            EntryKind::Symlink(target) => {
                rustix::fs::symlinkat(&**target, &parent, &name).map_err(refused)?;
                self.own(&parent, &name, entry).map_err(refused)
            }
            EntryKind::HardLink(target) => {
                let (from, first) = walk(top, &components(target)?).map_err(refused)?;
                rustix::fs::linkat(&from, &first, &parent, &name, AtFlags::empty()).map_err(refused)
            }
            EntryKind::Fifo => {
                let kind = FileType::Fifo;
                rustix::fs::mknodat(&parent, &name, kind, self.mode(entry), 0).map_err(refused)?;
                self.own(&parent, &name, entry).map_err(refused)
            }
            EntryKind::Character(..) | EntryKind::Block(..) => {
                eprintln!(
                    "warning: {} is a device, and is left out",
                    shown().display()
                );
                Ok(())
            }
            EntryKind::Directory => Ok(()),
        }
    }

    /// Setuid and setgid bits only come with their owner.
    fn mode(&self, entry: &Entry) -> Mode {
        let kept = if self.keep.owner { 0o7777 } else { 0o1777 };
        Mode::from_raw_mode(u32::from(entry.mode) & kept)
    }

    fn own(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        if !self.keep.owner {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let link = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), link)
    }

    /// Finishes directories.
    pub(crate) fn finish(self) -> Result<(), CopyError> {
        let Some(top) = self.top else { return Ok(()) };
        for (path, mode, times) in self.late.iter().rev() {
            let dressed = walk(&top, &components(path)?).and_then(|(parent, name)| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
                rustix::fs::fchmod(&directory, *mode)?;
                rustix::fs::futimens(&directory, times)
            });
            dressed.map_err(|errno| failed("Finishing", self.to)(errno.into()))?;
        }
        Ok(())
    }
}

/// Where the first entry goes: as cp(1) does it.
fn place(to: &Path, name: &[u8], first: &Entry) -> Result<Top, CopyError> {
    let directory = matches!(first.kind, EntryKind::Directory);
    let slash = to.as_os_str().as_bytes().ends_with(b"/");
    let (parent, name): (PathBuf, Vec<u8>) = match fs::metadata(to) {
        Ok(data) if data.is_dir() => (to.to_owned(), name.to_vec()),
        Ok(_) if directory || slash => {
            return Err(failed("Entering", to)(io::ErrorKind::NotADirectory.into()));
        }
        Err(_) if slash && !directory => {
            return Err(failed("Entering", to)(io::ErrorKind::NotFound.into()));
        }
        _ => {
            let parent = match to.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => to,
            };
            let name = to.file_name().map(|name| name.as_bytes().to_vec());
            (parent.to_owned(), name.unwrap_or_default())
        }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::open(&parent, flags, Mode::empty());
    let parent = open.map_err(|errno| failed("Entering", &parent)(errno.into()))?;
    Ok(Top { parent, name })
}

/// The directory that these names lead to but for the last one, and that. No step follows a link.
fn walk(top: &Top, names: &[&[u8]]) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let first = Some(top.name.as_slice()).filter(|name| !name.is_empty());
    let mut all: Vec<&[u8]> = first.into_iter().chain(names.iter().copied()).collect();
    // The very directory that everything goes into.
    let last = all.pop().unwrap_or(b".");
    let mut at = top
        .parent
        .as_fd()
        .try_clone_to_owned()
        .map_err(|_| Errno::MFILE)?;
    for name in all {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
    }
    Ok((at, last.to_vec()))
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.seconds,
        tv_nsec: i64::from(entry.nanoseconds.min(999_999_999)),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

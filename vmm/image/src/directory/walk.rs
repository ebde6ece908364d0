//! The walk itself, and the tar made of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::WalkError;
use crate::tar::{self, Entry, Kind, Time, Xattrs};

/// Deepest directory: each needs an open descriptor.
const MAX_DEPTH: usize = 256;

/// Something in the directory.
pub(super) struct Found {
    /// Path from the start, `.` for the start itself.
    pub(super) path: Vec<u8>,
    pub(super) status: Stat,
}

/// Walks a directory, names in byte order, a directory before what is in it.
pub(super) struct Walk {
    start: PathBuf,
    /// File system it stays on.
    device: u64,
    /// Directories from the start to here, with the names still to come, last first.
    open: Vec<(OwnedFd, Vec<Vec<u8>>)>,
    /// Path of the innermost of them.
    path: Vec<u8>,
    started: bool,
}

fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

impl Walk {
    pub(super) fn new(start: &Path) -> Result<Self, WalkError> {
        let error = |errno: Errno| WalkError::Read {
            path: start.to_owned(),
            source: errno.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(start, flags, Mode::empty()).map_err(error)?;
        let device = rustix::fs::fstat(&directory).map_err(error)?.st_dev;
        let names = names(&directory).map_err(error)?;
        let open = vec![(directory, names)];
        Ok(Self {
            start: start.to_owned(),
            device,
            open,
            path: Vec::new(),
            started: false,
        })
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.start.join(std::ffi::OsStr::from_bytes(path))
    }

    pub(super) fn next(&mut self) -> Result<Option<Found>, WalkError> {
        if !self.started {
            self.started = true;
            let Some((directory, _)) = self.open.last() else {
                return Ok(None);
            };
            let status = rustix::fs::fstat(directory);
            let status = status.map_err(|errno| self.error(b".", errno))?;
            return Ok(Some(Found {
                path: b".".to_vec(),
                status,
            }));
        }
        loop {
            let Some((directory, names)) = self.open.last_mut() else {
                return Ok(None);
            };
            let Some(name) = names.pop() else {
                self.open.pop();
                let end = self
                    .path
                    .iter()
                    .rposition(|byte| *byte == b'/')
                    .unwrap_or(0);
                self.path.truncate(end);
                continue;
            };
            let status = rustix::fs::statat(&*directory, &name[..], AtFlags::SYMLINK_NOFOLLOW);
            let path = match self.path.is_empty() {
                true => name.clone(),
                false => [&self.path[..], b"/", &name].concat(),
            };
            let status = match status {
                Ok(status) => status,
                // Gone since the directory was listed.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.error(&path, errno)),
            };
            let kind = FileType::from_raw_mode(status.st_mode);
            if kind == FileType::Directory && status.st_dev == self.device {
                self.enter(&name, &path)?;
            }
            if kind != FileType::Socket {
                return Ok(Some(Found { path, status }));
            }
        }
    }

    fn error(&self, path: &[u8], errno: Errno) -> WalkError {
        WalkError::Read {
            path: self.full(path),
            source: errno.into(),
        }
    }

    fn enter(&mut self, name: &[u8], path: &[u8]) -> Result<(), WalkError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(WalkError::Depth(self.full(path)));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some((parent, _)) = self.open.last() else {
            return Ok(());
        };
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        let directory = opened.map_err(|errno| self.error(path, errno))?;
        let names = names(&directory).map_err(|errno| self.error(path, errno))?;
        self.open.push((directory, names));
        self.path = path.to_vec();
        Ok(())
    }

    /// Directory and name of something just found; a directory is its own `.` by then.
    fn at<'a>(&'a self, found: &'a Found) -> Option<(&'a OwnedFd, &'a [u8])> {
        let (directory, _) = self.open.last()?;
        if found.path == b"." || found.path == self.path {
            return Some((directory, b"."));
        }
        let start = found
            .path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        Some((directory, found.path.get(start..)?))
    }
}

/// A directory as a tar, made while it is read.
pub(crate) struct Tar {
    walk: Walk,
    /// Headers and padding to hand out.
    ready: Vec<u8>,
    taken: usize,
    /// File being copied, bytes still to come, its path.
    file: Option<(File, u64, Vec<u8>)>,
    /// First path of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    ended: bool,
    /// Zeros due after the file being copied.
    padding: u64,
}

impl Tar {
    pub(crate) fn new(start: &Path) -> Result<Self, WalkError> {
        Ok(Self {
            walk: Walk::new(start)?,
            ready: Vec::new(),
            taken: 0,
            file: None,
            links: HashMap::new(),
            ended: false,
            padding: 0,
        })
    }

    /// Some of the tar; nothing at its end.
    pub(crate) fn read_piece(&mut self, buffer: &mut [u8]) -> Result<usize, WalkError> {
        loop {
            let ready = self.ready.get(self.taken..).unwrap_or_default();
            if !ready.is_empty() {
                let count = ready.len().min(buffer.len());
                buffer
                    .iter_mut()
                    .zip(ready)
                    .for_each(|(to, from)| *to = *from);
                self.taken += count;
                return Ok(count);
            }
            if let Some((mut file, left, path)) = self.file.take() {
                let most = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                let read = file.read(buffer.get_mut(..most).unwrap_or_default());
                let full = self.walk.full(&path);
                let count = match read {
                    Ok(0) => return Err(WalkError::Changed(full)),
                    Ok(count) => count,
                    Err(source) => return Err(WalkError::Read { path: full, source }),
                };
                if left > count as u64 {
                    self.file = Some((file, left - count as u64, path));
                }
                return Ok(count);
            }
            if self.ended {
                return Ok(0);
            }
            self.step()?;
        }
    }

    /// Prepares the next header, or the end.
    fn step(&mut self) -> Result<(), WalkError> {
        self.ready.clear();
        self.taken = 0;
        if self.padding > 0 {
            self.ready
                .resize(usize::try_from(self.padding).unwrap_or(0), 0);
            self.padding = 0;
            return Ok(());
        }
        let Some(found) = self.walk.next()? else {
            self.ready.resize(1024, 0);
            self.ended = true;
            return Ok(());
        };
        let error = |errno| self.walk.error(&found.path, errno);
        let Some((directory, name)) = self.walk.at(&found) else {
            return Ok(());
        };
        let status = &found.status;
        let (major, minor) = (
            rustix::fs::major(status.st_rdev),
            rustix::fs::minor(status.st_rdev),
        );
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(error)?;
                Kind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            _ => Kind::File {
                size: status.st_size.cast_unsigned(),
                map: None,
            },
        };
        let linked = status.st_nlink > 1 && kind != Kind::Directory;
        let first = linked
            .then(|| self.links.get(&(status.st_dev, status.st_ino)))
            .flatten();
        let kind = first.map_or(kind, |first| Kind::HardLink(first.clone()));
        let file = match kind {
            Kind::File { size, .. } if size > 0 => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(directory, name, flags, Mode::empty());
                let file = file.map_err(error)?;
                let opened = rustix::fs::fstat(&file).map_err(error)?;
                if (opened.st_dev, opened.st_ino) != (status.st_dev, status.st_ino) {
                    return Err(WalkError::Changed(self.walk.full(&found.path)));
                }
                Some((File::from(file), size, found.path.clone()))
            }
            _ => None,
        };
        let xattrs = xattrs(directory, name).map_err(error)?;
        if linked && first.is_none() {
            self.links
                .insert((status.st_dev, status.st_ino), found.path.clone());
        }
        if let Some((_, size, _)) = &file {
            self.padding = size.wrapping_neg() % 512;
        }
        let entry = Entry {
            path: found.path,
            kind,
            mode: u16::try_from(status.st_mode & 0o7777).unwrap_or(0),
            uid: status.st_uid,
            gid: status.st_gid,
            mtime: Time {
                seconds: status.st_mtime,
                nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or(0),
            },
            xattrs,
        };
        self.ready = tar::header(&entry);
        self.file = file;
        Ok(())
    }
}

/// Extended attributes of a name that is not followed. A file system without them has none.
fn xattrs(directory: &OwnedFd, name: &[u8]) -> Result<Xattrs, Errno> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend(name);
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(&path[..], &mut list) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut value = vec![0; 64 << 10];
    let mut found = Vec::new();
    for name in list
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
    {
        if name.is_empty() || name.starts_with(b"system.") && !name.starts_with(b"system.posix_acl")
        {
            continue;
        }
        match rustix::fs::lgetxattr(&path[..], name, &mut value) {
            Ok(length) => {
                found.push((
                    name.to_vec(),
                    value.get(..length).unwrap_or_default().to_vec(),
                ));
            }
            // Not for us to see, or gone.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_piece(buffer).map_err(io::Error::other)
    }
}

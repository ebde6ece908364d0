//! Files of the store: looked up beneath its directory, written under a temporary name, locked by
//! their writer, made durable, renamed. Knows not what they mean.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Where files are before they have their name.
pub(super) const TEMPORARY: &str = "tmp";
/// Longest record or document, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The store's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let error = |action, errno: Errno| StoreError::File {
            action,
            path: path.to_owned(),
            source: errno.into(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                make_private(path).map_err(|source| StoreError::File {
                    action: "Making",
                    path: path.to_owned(),
                    source,
                })?;
                rustix::fs::open(path, flags, Mode::empty())
            }
            other => other,
        }
        .map_err(|errno| error("Opening", errno))?;
        let owner = rustix::fs::fstat(&descriptor)
            .map_err(|errno| error("Opening", errno))?
            .st_uid;
        let user = rustix::process::geteuid().as_raw();
        if owner != user {
            return Err(StoreError::Owner {
                path: path.to_owned(),
                owner,
                user,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            descriptor,
        })
    }

    /// Full path of a file, to show or to hand on.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn error(&self, action: &'static str, name: &str) -> impl Fn(Errno) -> StoreError {
        let path = self.path(name);
        move |errno| StoreError::File {
            action,
            path: path.clone(),
            source: errno.into(),
        }
    }

    fn open_at(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat(&self.descriptor, name, flags, mode).map(File::from)
    }

    /// A file to read, if it is there.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<File>, StoreError> {
        match self.open_at(name, OFlags::RDONLY) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("Opening", name)(errno)),
        }
    }

    /// A file that only serves as a lock; made if it is missing.
    pub(crate) fn open_or_make(&self, name: &str) -> Result<File, StoreError> {
        self.open_at(name, OFlags::RDWR | OFlags::CREATE)
            .map_err(self.error("Opening", name))
    }

    /// Removes a file for good; says whether it was there.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, StoreError> {
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) => self.sync_parent(name).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("Removing", name)(errno)),
        }
    }

    /// Length of a file in bytes, if it is there.
    pub(crate) fn length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status.st_size.cast_unsigned())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("Looking at", name)(errno)),
        }
    }

    /// Bytes a file takes on the disk, if it is there.
    pub(crate) fn disk_bytes(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status.st_blocks.cast_unsigned() * 512)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("Looking at", name)(errno)),
        }
    }

    /// A whole small file, if it is there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.open_file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        match file.take(MAX_FILE).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(StoreError::File {
                action: "Reading",
                path: self.path(name),
                source,
            }),
        }
    }

    pub(crate) fn read_json<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StoreError::Damaged {
                path: self.path(name),
                source,
            })
    }

    /// Writes a small file: after this it is there for good.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.create()?;
        temporary.fill(bytes)?;
        temporary.commit(name)
    }

    /// Makes the bytes of files durable, then gives them their names, which are in one directory, durably too.
    pub(crate) fn commit(&self, files: Vec<(Temporary<'_>, String)>) -> Result<(), StoreError> {
        let Some((_, last)) = files.last() else {
            return Ok(());
        };
        let last = last.clone();
        for (file, _) in &files {
            rustix::fs::fdatasync(&file.file).map_err(self.error("Writing", &file.name))?;
        }
        for (file, target) in files {
            file.rename(&target)?;
        }
        self.sync_parent(&last)
    }

    pub(crate) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Damaged {
            path: self.path(name),
            source,
        })?;
        self.write(name, &bytes)
    }

    /// Writes a small file that may be lost again: no waiting for the disk.
    pub(crate) fn write_cache(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.create()?;
        temporary.fill(bytes)?;
        temporary.rename(name)
    }

    /// A temporary file of our own.
    pub(crate) fn create(&self) -> Result<Temporary<'_>, StoreError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        loop {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let process = rustix::process::getpid().as_raw_nonzero();
            let name = format!("{TEMPORARY}/{process}.{serial}");
            // A file of that name that is locked or not ours to take is a dead one's at worst.
            if let Some(temporary) = self.take(&name)? {
                return Ok(temporary);
            }
        }
    }

    /// The temporary file that becomes `target`, empty, and ours alone: waits while another process
    /// works on it.
    pub(crate) fn lock(&self, target: &str) -> Result<Temporary<'_>, StoreError> {
        let name = format!("{TEMPORARY}/{}", target.replace('/', "."));
        loop {
            if let Some(temporary) = self.take(&name)? {
                return Ok(temporary);
            }
            self.wait(&name)?;
        }
    }

    /// Waits until nobody works on a file. Shared: what it becomes is locked so by whoever uses it, for as long as they like.
    fn wait(&self, name: &str) -> Result<(), StoreError> {
        let error = self.error("Waiting for", name);
        match self.open_at(name, OFlags::RDONLY) {
            Err(Errno::NOENT) => Ok(()),
            file => {
                let file = file.map_err(&error)?;
                rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared))
                    .map_err(&error)
            }
        }
    }

    /// Opens and locks; none where somebody else has it, or has renamed or removed it meanwhile.
    fn take(&self, name: &str) -> Result<Option<Temporary<'_>>, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = match self.open_at(name, flags) {
            Err(Errno::NOENT) => {
                self.make_parent(name)?;
                self.open_at(name, flags)
            }
            other => other,
        };
        let error = self.error("Writing", name);
        let file = file.map_err(&error)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(&error)?,
        }
        let ours = rustix::fs::fstat(&file).map_err(&error)?;
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(error(errno)),
        }
        rustix::fs::ftruncate(&file, 0).map_err(&error)?;
        Ok(Some(Temporary {
            directory: self,
            file,
            name: name.to_owned(),
            done: false,
        }))
    }

    fn make_parent(&self, name: &str) -> Result<(), StoreError> {
        let mut start = 0;
        while let Some(slash) = name.get(start..).and_then(|rest| rest.find('/')) {
            let parent = name.get(..start + slash).unwrap_or_default();
            match rustix::fs::mkdirat(&self.descriptor, parent, Mode::RWXU) {
                Err(Errno::EXIST) => {}
                // What is renamed into it later must not be lost with it.
                Ok(()) => self.sync_parent(parent)?,
                Err(errno) => return Err(self.error("Making", parent)(errno)),
            }
            start += slash + 1;
        }
        Ok(())
    }

    /// Removes temporary files whose writers have died. What cannot be removed is left for later.
    pub(crate) fn remove_dead(&self) {
        for name in self.names(TEMPORARY).unwrap_or_default() {
            let name = format!("{TEMPORARY}/{name}");
            let Ok(file) = self.open_at(&name, OFlags::RDONLY) else {
                continue;
            };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && self.is_same(&name, &file)
            {
                let _ = rustix::fs::unlinkat(&self.descriptor, &name, AtFlags::empty());
            }
        }
    }

    fn is_same(&self, name: &str, file: &File) -> bool {
        let there = rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW);
        match (there, rustix::fs::fstat(file)) {
            (Ok(there), Ok(ours)) => (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino),
            _ => false,
        }
    }

    /// Names in one of the store's directories; none where it does not exist.
    pub(crate) fn names(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let error = self.error("Listing", directory);
        let descriptor = match self.open_at(directory, flags) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            other => other.map_err(&error)?,
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(descriptor).map_err(&error)? {
            let entry = entry.map_err(&error)?;
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_parent(&self, name: &str) -> Result<(), StoreError> {
        let parent = name.rsplit_once('/').map_or(".", |(parent, _)| parent);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.open_at(parent, flags)
            .and_then(rustix::fs::fsync)
            .map_err(self.error("Writing", parent))
    }
}

/// `path` and what is missing above it, for the user alone.
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// A file that has no name yet. Dropped before it has one, it is removed.
#[derive(Debug)]
pub(crate) struct Temporary<'a> {
    directory: &'a Directory,
    file: File,
    name: String,
    done: bool,
}

impl Temporary<'_> {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it up: it is removed.
    pub(crate) fn remove(self) {}

    fn fill(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let path = || self.directory.path(&self.name);
        (&self.file)
            .write_all(bytes)
            .map_err(|source| StoreError::File {
                action: "Writing",
                path: path(),
                source,
            })
    }

    /// Makes the bytes durable, then gives them their name, durably too.
    pub(crate) fn commit(self, target: &str) -> Result<(), StoreError> {
        let directory = self.directory;
        directory.commit(vec![(self, target.to_owned())])
    }

    fn rename(mut self, target: &str) -> Result<(), StoreError> {
        let directory = self.directory;
        let at = &directory.descriptor;
        let renamed = match rustix::fs::renameat(at, &self.name, at, target) {
            Err(Errno::NOENT) => {
                directory.make_parent(target)?;
                rustix::fs::renameat(at, &self.name, at, target)
            }
            other => other,
        };
        renamed.map_err(directory.error("Naming", target))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Nobody else has it: the lock is ours until the file closes.
            let _ = rustix::fs::unlinkat(&self.directory.descriptor, &self.name, AtFlags::empty());
        }
    }
}

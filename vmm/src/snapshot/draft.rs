//! A directory with a saved machine in the making: whoever makes it holds its lock, and nobody finds it under its name before
//! it is whole and durable. What a maker that was killed has left is known by that nobody holds its lock.

use std::fs::{DirBuilder, File};
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags, fallocate};
use rustix::io::Errno;

use super::{CONTAINER, DISK, FormatError, MACHINE, MEMORY, Parts};
use crate::machine::memory::Pages;
use crate::vmm::Rest;

/// Where those are that are being made, in the directory of those that are. None is called so.
pub(crate) const DRAFTS: &str = "tmp";

/// A saved machine under construction. Dropped before it is done, nothing of it stays.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) machine: File,
    pub(crate) memory: File,
    path: PathBuf,
    target: PathBuf,
    pub(crate) is_done: bool,
    directory: OwnedFd,
}

impl Draft {
    /// A place to make one of this name among those in `place`. `None` when there is one already, or somebody else is making it.
    pub(crate) fn begin(place: &Path, name: &str) -> io::Result<Option<Self>> {
        let drafts = place.join(DRAFTS);
        for path in [place, &drafts] {
            make_directory(path)?;
        }
        let (path, target) = (drafts.join(name), place.join(name));
        if target.join(MACHINE).exists() {
            return Ok(None);
        }
        make_directory(&path)?;
        let directory = open_directory(&path)?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        // Who held the lock before may have finished, and moved or removed the directory.
        let is_same = std::fs::metadata(&path).is_ok_and(|data| {
            rustix::fs::fstat(&directory).is_ok_and(|own| own.st_ino == data.ino())
        });
        if !is_same {
            return Ok(None);
        }
        if target.join(MACHINE).exists() {
            // Made between the two looks: the directory made here is of no use, and locked.
            remove_files(&path)?;
            return Ok(None);
        }
        let (machine, memory) = (
            create(directory.as_fd(), MACHINE)?,
            create(directory.as_fd(), MEMORY)?,
        );
        Ok(Some(Self {
            machine,
            memory,
            path,
            target,
            is_done: false,
            directory,
        }))
    }

    /// Its files, for the VMM that fills them.
    pub(crate) fn rest(&self) -> io::Result<Rest> {
        Ok(Rest {
            machine: self.machine.as_fd().try_clone_to_owned()?,
            memory: self.memory.as_fd().try_clone_to_owned()?,
        })
    }

    /// An empty file beside them that has no name, and is gone with whoever has it open.
    pub(crate) fn scratch(&self) -> io::Result<File> {
        let file = create(self.directory(), DISK)?;
        rustix::fs::unlinkat(&self.directory, DISK, AtFlags::empty())?;
        Ok(file)
    }

    /// The directory, for whoever has them filled.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Notes in `machine` that every copy writes what one of them has written, whose memory is now this; what none writes the host
    /// keeps in large pages, where it can. For a machine that nobody reads meanwhile.
    pub(crate) fn learn(&self, memory: &File) -> Result<(), FormatError> {
        let pages = Pages::written(&self.memory, memory)?;
        let _ = pages.leave_large(&self.memory);
        // Where the file is read goes on where it was written, in all processes.
        (&self.machine).rewind()?;
        let bytes = super::read(&self.machine)?;
        let saved = Parts {
            pages: &pages.encode(),
            ..super::decode(&bytes)?
        };
        Ok(self.replace_machine(&super::encode(&saved))?)
    }

    /// Gives its `machine` another content. On a full disk it keeps the one that it has.
    pub(super) fn replace_machine(&self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        match fallocate(&self.machine, FallocateFlags::KEEP_SIZE, 0, length) {
            // Some file systems cannot say beforehand.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        self.machine.set_len(length)?;
        self.machine.write_all_at(bytes, 0)
    }

    /// Adds the file that says which container it is, and makes that durable.
    pub(crate) fn write_container(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = create(self.directory.as_fd(), CONTAINER)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_data()
    }

    /// Makes it durable, and then visible.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.memory.sync_data()?;
        self.machine.sync_data()?;
        if let Ok(disk) = rustix::fs::openat(&self.directory, DISK, OFlags::RDONLY, Mode::empty()) {
            File::from(disk).sync_data()?;
        }
        // Half of one may be left from a removal that was broken off.
        match std::fs::remove_dir_all(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        rustix::fs::renameat(CWD, &self.path, CWD, &self.target)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = remove_files(&self.path);
        }
    }
}

/// Removes what makers that were killed have left in `place`.
pub(crate) fn remove_dead(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place.join(DRAFTS)) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(directory) = open_directory(&entry.path()) else {
            continue;
        };
        let lock = FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&directory, lock).is_ok() {
            let _ = remove_files(&entry.path());
        }
    }
}

/// Removes a saved machine's directory: only what is ours in it, and no links are followed. Without its `machine` it is none any
/// more, whatever happens after.
pub(crate) fn remove_files(path: &Path) -> io::Result<()> {
    for name in [MACHINE, MEMORY, CONTAINER, DISK] {
        match std::fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens such a directory.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes one of its files.
pub(crate) fn create(directory: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::openat(directory, name, flags, mode)?.into())
}

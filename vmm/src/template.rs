//! Templates: machines that booted, mounted an image and were saved before anything of a container came into them. The next
//! run of the same image in the same shape begins there. A directory each beside the image store, called by what it was made of.
//!
//! Whoever has opened a template's files can use them, whatever becomes of the directory: none is ever changed, only made,
//! renamed into place and removed. Refuses to know what is in a machine.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::snapshot::{self, MACHINE, MEMORY};
use crate::vmm::Rest;

mod key;
mod make;

pub(crate) use key::Key;
pub(crate) use make::make;

/// Templates beyond this are removed, the longest unused first.
const MOST_BYTES: u64 = 2 << 30;
/// Where those are that are being made. No key is called so.
const DRAFTS: &str = "tmp";

/// The templates beside one image store.
#[derive(Debug)]
pub(crate) struct Templates {
    path: PathBuf,
    most: u64,
}

/// What the templates take on the disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

/// A template that is there.
#[derive(Debug)]
struct Found {
    name: String,
    bytes: u64,
    used: SystemTime,
}

impl Templates {
    /// Those of the store at `root`. There may be none, and no directory.
    pub(crate) fn of(root: &Path) -> Self {
        Self {
            path: root.join("templates"),
            most: MOST_BYTES,
        }
    }

    /// Opens one, and notes that it was used.
    pub(crate) fn find(&self, key: &Key) -> Option<Rest> {
        let directory = open_directory(&self.path.join(key.name())).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |name| rustix::fs::openat(&directory, name, flags, Mode::empty()).ok();
        let (machine, memory) = (open(MACHINE)?, open(MEMORY)?);
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        // On a read-only store the order in which they are removed does not matter.
        let _ = rustix::fs::futimens(
            &machine,
            &Timestamps {
                last_access: time(UTIME_OMIT),
                last_modification: time(UTIME_NOW),
            },
        );
        Some(Rest { machine, memory })
    }

    /// A place to make one. `None` when there is one already, or somebody else is making it.
    pub(crate) fn begin(&self, key: &Key) -> io::Result<Option<Draft>> {
        let drafts = self.path.join(DRAFTS);
        for path in [&self.path, &drafts] {
            make_directory(path)?;
        }
        let (path, target) = (drafts.join(key.name()), self.path.join(key.name()));
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
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let create = |name| rustix::fs::openat(&directory, name, flags | OFlags::CLOEXEC, mode);
        let (machine, memory) = (create(MACHINE)?, create(MEMORY)?);
        Ok(Some(Draft {
            machine: machine.into(),
            memory: memory.into(),
            path,
            target,
            is_done: false,
            _lock: directory,
        }))
    }

    /// Removes one, for it is of no use.
    pub(crate) fn remove(&self, key: &Key) {
        let _ = self.discard(&key.name());
    }

    /// What they take.
    pub(crate) fn usage(&self) -> Usage {
        let found = self.list();
        Usage {
            count: found.len(),
            bytes: found.iter().map(|one| one.bytes).sum(),
        }
    }

    /// Removes those whose image's file system is no longer among the files of `roots`, and what the dead left.
    pub(crate) fn sweep(&self, roots: &Path) {
        let files = std::fs::read_dir(roots).into_iter().flatten().flatten();
        let files = files.filter_map(|entry| entry.metadata().ok());
        let there: HashSet<String> = files.map(|data| key::identity(&data)).collect();
        for one in self.list() {
            let is_of = |text: &str| key::root_in(text).is_some_and(|root| there.contains(root));
            let text = self.about(&one.name);
            if !text.is_some_and(|text| is_of(&text)) {
                // What stays now is swept the next time.
                let _ = self.discard(&one.name);
            }
        }
        self.remove_dead();
    }

    /// What one was made of.
    fn about(&self, name: &str) -> Option<String> {
        let file = File::open(self.path.join(name).join(MACHINE)).ok()?;
        let bytes = snapshot::read(&file).ok()?;
        let about = snapshot::decode(&bytes).ok()?.about.to_vec();
        String::from_utf8(about).ok()
    }

    /// Removes the longest unused until the rest fits, but never `kept`; and what the dead left.
    pub(crate) fn evict(&self, kept: &Key) {
        let mut found = self.list();
        found.sort_by_key(|one| one.used);
        let mut bytes: u64 = found.iter().map(|one| one.bytes).sum();
        for one in found.iter().filter(|one| one.name != kept.name()) {
            if bytes <= self.most {
                break;
            }
            if self.discard(&one.name).is_ok() {
                bytes = bytes.saturating_sub(one.bytes);
            }
        }
        self.remove_dead();
    }

    fn list(&self) -> Vec<Found> {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let found = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let path = entry.path();
            let machine = std::fs::symlink_metadata(path.join(MACHINE)).ok()?;
            let memory = std::fs::symlink_metadata(path.join(MEMORY)).ok()?;
            Some(Found {
                name,
                bytes: 512 * (machine.blocks() + memory.blocks()),
                used: machine.modified().ok()?,
            })
        });
        found.filter(|one| one.name != DRAFTS).collect()
    }

    /// Without its `machine` it is none any more, whatever happens after.
    fn discard(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        remove_files(&path)
    }

    /// Drafts that nobody holds are of makers that were killed.
    fn remove_dead(&self) {
        let Ok(entries) = std::fs::read_dir(self.path.join(DRAFTS)) else {
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
}

/// A template under construction. Dropped before it is done, nothing of it stays.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) machine: File,
    pub(crate) memory: File,
    path: PathBuf,
    target: PathBuf,
    is_done: bool,
    _lock: OwnedFd,
}

impl Draft {
    /// Its files, for the VMM that fills them.
    pub(crate) fn rest(&self) -> io::Result<Rest> {
        Ok(Rest {
            machine: self.machine.as_fd().try_clone_to_owned()?,
            memory: self.memory.as_fd().try_clone_to_owned()?,
        })
    }

    /// Makes it durable, and then visible.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.memory.sync_data()?;
        self.machine.sync_data()?;
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

/// Removes a template's directory: only what is ours in it, and no links are followed.
fn remove_files(path: &Path) -> io::Result<()> {
    for name in [MACHINE, MEMORY] {
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

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests;

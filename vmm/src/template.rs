//! Templates: machines that booted, mounted an image and were saved before anything of a container came into them. The next
//! run of the same image in the same shape begins there. A directory each beside the image store, called by what it was made of.
//!
//! Whoever has opened a template's files can use them, whatever becomes of the directory: none is ever changed, only made,
//! renamed into place and removed. Refuses to know what is in a machine.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::config::VmConfig;
use crate::snapshot::draft::{self, DRAFTS, Draft};
use crate::snapshot::{self, MACHINE, MEMORY};
use crate::supervise::Parts;
use crate::vmm::Rest;

mod key;
mod make;

pub(crate) use key::Key;
pub(crate) use make::make;

/// Templates beyond this are removed, the longest unused first.
const MOST_BYTES: u64 = 2 << 30;

/// What a template resembles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) machine: &'a VmConfig,
    pub(crate) parts: &'a Parts,
    /// Bytes of the disk that keeps what is written; 0 is none. A copy has its own in that place.
    pub(crate) storage: u64,
}

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
        let directory = draft::open_directory(&self.path.join(key.name())).ok()?;
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
        Draft::begin(&self.path, &key.name())
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
        draft::remove_dead(&self.path);
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
        draft::remove_dead(&self.path);
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
        draft::remove_files(&self.path.join(name))
    }
}

#[cfg(test)]
mod tests;

//! Directories and files of the host that a jailed process works with. Refuses to know what it does with them.
//!
//! Each becomes a mount of its own that belongs to no tree: above its root there is nothing, and what is read-only is so for the
//! kernel. Landlock says the same once more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, fstat};

use super::layers;
use crate::sys;

/// One of them.
#[derive(Debug)]
pub(crate) struct Share {
    /// It, opened in any way.
    pub(crate) root: OwnedFd,
    /// Nothing in it may change.
    pub(crate) read_only: bool,
}

/// All of them, and the process's own descriptors as a directory.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// The shares.
    pub(crate) all: Vec<Share>,
    /// There is a device for them, even where there are none.
    pub(crate) served: bool,
    /// The directory where the guest's neighbours are. Nothing in it is opened or changes; what may be done there is to send to sockets
    /// and to read links, by paths that begin with its descriptor's number.
    pub(crate) neighbours: Option<OwnedFd>,
    /// `/proc/self/fd`, once in the jail.
    pub(crate) descriptors: Option<OwnedFd>,
    /// The process acts for root, who may do everything with all files.
    pub(crate) of_root: bool,
}

impl Shares {
    /// Those of the launcher's message.
    pub(crate) fn new(all: Vec<Share>, served: bool) -> Self {
        Self {
            served: served || !all.is_empty(),
            all,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.served && self.neighbours.is_none()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let shares = self.all.iter().map(|share| share.root.as_fd());
        shares.chain(self.neighbours.as_ref().map(AsFd::as_fd))
    }

    /// Makes mounts of them, if this process is `apart` from the host's; those that cannot be made stay as they are.
    pub(super) fn detach(&mut self, apart: bool) -> io::Result<()> {
        const DESCRIPTORS: &str = "/proc/self/fd";
        if !apart {
            self.descriptors = Some(layers::open_directory(DESCRIPTORS)?);
            return Ok(());
        }
        let mut done = Ok(());
        for share in &mut self.all {
            match detached(&share.root, share.read_only) {
                Ok(mount) => share.root = mount,
                Err(error) => done = Err(error),
            }
        }
        if let Some(directory) = &mut self.neighbours {
            match detached(directory, true) {
                Ok(mount) => *directory = mount,
                Err(error) => done = Err(error),
            }
        }
        let own = sys::clone_mount(DESCRIPTORS.as_ref(), false);
        self.descriptors = Some(own.or_else(|_| layers::open_directory(DESCRIPTORS))?);
        done
    }

    /// Some system calls take nothing but paths: those begin here from now on.
    pub(super) fn go_to_descriptors(&self) -> io::Result<()> {
        rustix::process::umask(rustix::fs::Mode::empty());
        match &self.descriptors {
            Some(directory) => Ok(rustix::process::fchdir(directory)?),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Each with what Landlock is to allow beneath it.
    pub(super) fn rights(&self) -> impl Iterator<Item = (BorrowedFd<'_>, u64)> {
        self.all.iter().map(|share| {
            let directory = fstat(&share.root)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            let rights = layers::share_rights(share.read_only, directory);
            (share.root.as_fd(), rights)
        })
    }
}

/// The same directory or file, as the root of a mount.
fn detached(root: &OwnedFd, read_only: bool) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    // A descriptor leads into the mounts of the process that made it; its path leads to the same among this one's.
    let link = format!("/proc/self/fd/{}", root.as_raw_fd());
    let path = std::fs::read_link(link)?;
    let mount = sys::clone_mount(&path, true)?;
    let (meant, found) = (fstat(root)?, fstat(&mount)?);
    if (meant.st_dev, meant.st_ino) != (found.st_dev, found.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    sys::restrict_mount(&mount, read_only)?;
    Ok(mount)
}

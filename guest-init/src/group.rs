//! The container's control group: all its processes are in one below init's, so that limits bite them and never init.
//! Knows no process.
//!
//! What the container sees at /sys/fs/cgroup is that group, as if there were nothing above it.

use alloc::format;
use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::mount_bind;

use crate::failure::{SetupError, refused_file};

/// Where furnishing has mounted cgroup v2.
const MOUNT: &CStr = c"/sys/fs/cgroup";
const GROUP: &CStr = c"/sys/fs/cgroup/container";
/// What a group can be told by: its processes are counted, and can be bounded.
const CONTROLLERS: &[u8] = b"+pids";

/// A group that processes can be started in.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// Makes the group, with so many processes and threads at most, and shows it in place of its parent.
    ///
    /// # Errors
    /// A kernel without cgroup v2 or its pids controller.
    pub fn make(pids: Option<u64>) -> Result<Self, SetupError> {
        write(CWD, c"/sys/fs/cgroup/cgroup.subtree_control", CONTROLLERS)?;
        let refused = |doing| refused_file(doing, GROUP.to_bytes());
        rustix::fs::mkdir(GROUP, Mode::from_raw_mode(0o755)).map_err(refused("create"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let group = rustix::fs::open(GROUP, flags, Mode::empty()).map_err(refused("open"))?;
        if let Some(most) = pids {
            write(&group, c"pids.max", format!("{most}").as_bytes())?;
        }
        mount_bind(GROUP, MOUNT).map_err(refused("mount"))?;
        Ok(Self(group))
    }

    /// Stops all its processes where they are, or lets them go on. Stopping takes a moment: see [`Group::events`].
    ///
    /// # Errors
    /// Those of writing to the kernel's file.
    pub fn freeze(&self, freeze: bool) -> Result<(), SetupError> {
        write(&self.0, c"cgroup.freeze", if freeze { b"1" } else { b"0" })
    }

    /// A descriptor that has an exceptional event (`EPOLLPRI`) whenever [`is_frozen`] may have changed.
    ///
    /// # Errors
    /// Those of opening the kernel's file.
    pub fn events(&self) -> Result<OwnedFd, SetupError> {
        let (path, flags) = (c"cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC);
        rustix::fs::openat(&self.0, path, flags, Mode::empty())
            .map_err(refused_file("open", path.to_bytes()))
    }
}

/// Whether the group of these events stands still.
#[must_use]
pub fn is_frozen(events: &OwnedFd) -> bool {
    let mut text = [0; 128];
    let length = rustix::io::pread(events, &mut text[..], 0).unwrap_or(0);
    let text = text.get(..length).unwrap_or_default();
    text.split(|byte| *byte == b'\n')
        .any(|line| line == b"frozen 1")
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn write(directory: impl AsFd, path: &CStr, value: &[u8]) -> Result<(), SetupError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let written = rustix::fs::openat(directory, path, flags, Mode::empty())
        .and_then(|file| rustix::io::write(&file, value));
    match written {
        Ok(length) if length == value.len() => Ok(()),
        other => {
            let errno = other.err().unwrap_or(Errno::IO);
            Err(refused_file("write", path.to_bytes())(errno))
        }
    }
}

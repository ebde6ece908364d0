//! The container's control group: all its processes are in one below init's, so that limits bite them and never init.
//! Knows no process.
//!
//! What the container sees at /sys/fs/cgroup is that group, as if there were nothing above it.

use alloc::borrow::ToOwned;
use alloc::format;
use core::ffi::CStr;

use protocol::Bounds;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::mount_bind;

use crate::failure::{SetupError, refused_file};

/// Where furnishing has mounted cgroup v2.
const MOUNT: &CStr = c"/sys/fs/cgroup";
const GROUP: &CStr = c"/sys/fs/cgroup/container";
/// What of a group is counted from its first process on: what was there before a controller is its parent's.
const CONTROLLERS: &[u8] = b"+memory +pids";
/// What a group has of the processors is divided only where that is asked for: it makes each switch longer.
const PROCESSORS: &[u8] = b"+cpu";
/// Microseconds in which a group has so many processors' time.
const PERIOD: u64 = 100_000;

/// A group that processes can be started in.
#[derive(Debug)]
pub struct Group {
    group: OwnedFd,
    /// Init's own, above it.
    parent: OwnedFd,
}

impl Group {
    /// Makes the group, with so many processes and threads at most, and shows it in place of its parent.
    ///
    /// # Errors
    /// A kernel without cgroup v2 or its controllers.
    pub fn make(pids: Option<u64>) -> Result<Self, SetupError> {
        write(CWD, c"/sys/fs/cgroup/cgroup.subtree_control", CONTROLLERS)?;
        let refused = |doing| refused_file(doing, GROUP.to_bytes());
        rustix::fs::mkdir(GROUP, Mode::from_raw_mode(0o755)).map_err(refused("create"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let group = rustix::fs::open(GROUP, flags, Mode::empty()).map_err(refused("open"))?;
        if let Some(most) = pids {
            write(&group, c"pids.max", format!("{most}").as_bytes())?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(MOUNT, flags, Mode::empty()).map_err(refused("open"))?;
        mount_bind(GROUP, MOUNT).map_err(refused("mount"))?;
        Ok(Self { group, parent })
    }

    /// Bounds it anew.
    ///
    /// # Errors
    /// Those of writing to the kernel's files.
    pub fn bound(&self, bounds: &Bounds) -> Result<(), SetupError> {
        let most = |value| match value {
            u64::MAX => "max".to_owned(),
            value => format!("{value}"),
        };
        if let Some(memory) = bounds.memory {
            write(&self.group, c"memory.max", most(memory).as_bytes())?;
        }
        if let Some(cpus) = bounds.cpus {
            write(&self.parent, c"cgroup.subtree_control", PROCESSORS)?;
            let quota = format!("{} {PERIOD}", most(cpus.saturating_mul(PERIOD)));
            write(&self.group, c"cpu.max", quota.as_bytes())?;
        }
        if let Some(pids) = bounds.pids {
            write(&self.group, c"pids.max", most(pids).as_bytes())?;
        }
        Ok(())
    }

    /// Stops all its processes where they are, or lets them go on. Stopping takes a moment: see [`Group::events`].
    ///
    /// # Errors
    /// Those of writing to the kernel's file.
    pub fn freeze(&self, freeze: bool) -> Result<(), SetupError> {
        write(
            &self.group,
            c"cgroup.freeze",
            if freeze { b"1" } else { b"0" },
        )
    }

    /// A descriptor that has an exceptional event (`EPOLLPRI`) whenever [`is_frozen`] may have changed.
    ///
    /// # Errors
    /// Those of opening the kernel's file.
    pub fn events(&self) -> Result<OwnedFd, SetupError> {
        let (path, flags) = (c"cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC);
        rustix::fs::openat(&self.group, path, flags, Mode::empty())
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
        self.group.as_fd()
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

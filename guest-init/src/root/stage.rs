//! A root that waits for its disk: what every copy of the machine has is ready beside it, and is moved to its place once the disk
//! is mounted.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, move_mount};

use super::{Base, Layers, mount_on, open, overlay};
use crate::failure::{SetupError, refused, refused_file};
use crate::{ahead, furnish};

/// Where it is; what is mounted in it is below these.
const PLACE: &CStr = c"/stage";
const MOUNTS: [(&CStr, &CStr); 3] = [
    (c"/stage/proc", c"/proc"),
    (c"/stage/sys", c"/sys"),
    (c"/stage/dev", c"/dev"),
];

/// Freed blocks go back to the host.
const DISK: &CStr = c"discard";

/// The file systems of the kernel, furnished, and what the root lies upon.
pub struct Stage {
    base: Base,
    lower: OwnedFd,
}

impl Stage {
    pub(super) fn new(base: Base) -> Result<Self, SetupError> {
        open(c"/lower").map(|lower| Self { base, lower })
    }

    pub(super) fn furnish(&self) -> Result<(), SetupError> {
        within(&open(PLACE)?, || furnish::furnish(true))?
    }

    pub(super) fn read_program(&self, program: &[u8], path: &[u8]) {
        // What cannot be read now is read when it is needed.
        let _ = within(&self.lower, || ahead::read(program, path));
    }

    pub(super) fn complete(self) -> Result<Layers, SetupError> {
        let disk = self.base.disk();
        mount_on(disk, c"ext4", c"/upper", MountFlags::empty(), DISK)?;
        let staged = MOUNTS.map(|(staged, place)| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(staged, flags, Mode::empty());
            (opened, staged, place)
        });
        let layers = overlay(self.base, true)?;
        for (opened, staged, place) in staged {
            let mount = opened.map_err(refused_file("open", staged.to_bytes()))?;
            put(&mount, place)?;
        }
        layers.read_ahead();
        Ok(layers)
    }
}

/// Moves a mount to its place in the root; the image need not have the directory.
fn put(mount: &OwnedFd, place: &CStr) -> Result<(), SetupError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    let put = || move_mount(mount, c"", CWD, place, flags);
    let mut result = put();
    if result == Err(Errno::NOENT) {
        furnish::create_directory(place, 0o755)?;
        result = put();
    }
    result.map_err(refused_file("move a mount to", place.to_bytes()))
}

/// Acts with another directory as the root.
fn within<T>(place: &OwnedFd, act: impl FnOnce() -> T) -> Result<T, SetupError> {
    let enter = |place: &OwnedFd| {
        rustix::process::fchdir(place).and_then(|()| rustix::process::chroot(c"."))
    };
    let before = open(c"/")?;
    enter(place).map_err(refused("change the root"))?;
    let done = act();
    enter(&before).map_err(refused("change the root"))?;
    Ok(done)
}

//! The root: the image, read-only, under a layer in memory, in place of the initramfs. Knows nothing of the container.
//!
//! The old root stays below the new one, out of reach; a workload may pivot_root as on any machine.

use core::ffi::CStr;

use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount, mount_move};

use crate::errno::SystemError;
use crate::failure::{SetupError, refused, refused_file};

/// The image's directory moves with its files' data left in the image until it is written: a `chown -R` of a large
/// tree then costs no memory for contents.
const OVERLAY: &CStr =
    c"lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work,redirect_dir=on,metacopy=on";

/// Puts the image's root in place of the initramfs and goes there.
///
/// # Errors
/// A mount was refused: no disk, no image on it, or a kernel without one of the file systems.
pub fn assemble() -> Result<(), SetupError> {
    mount_on(
        c"devtmpfs",
        c"devtmpfs",
        c"/dev",
        MountFlags::NOEXEC | MountFlags::NOSUID,
        c"mode=755",
    )?;
    mount_on(c"/dev/vda", c"erofs", c"/lower", MountFlags::RDONLY, c"")?;
    mount_on(
        c"upper",
        c"tmpfs",
        c"/upper",
        MountFlags::empty(),
        c"mode=755",
    )?;
    for directory in [c"/upper/files", c"/upper/work"] {
        rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755))
            .map_err(refused_file("create", directory.to_bytes()))?;
    }
    mount_on(
        c"overlay",
        c"overlay",
        c"/merged",
        MountFlags::empty(),
        OVERLAY,
    )?;
    rustix::process::chdir(c"/merged").map_err(refused_file("enter", b"/merged"))?;
    mount_move(c".", c"/").map_err(refused("move the root into place"))?;
    rustix::process::chroot(c".").map_err(refused("change the root"))?;
    rustix::process::chdir(c"/").map_err(refused_file("enter", b"/"))
}

fn mount_on(
    source: &CStr,
    kind: &'static CStr,
    at: &'static CStr,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), SetupError> {
    mount(source, at, kind, flags, options).map_err(|error| SetupError::Mount {
        what: kind.to_str().unwrap_or_default(),
        at: at.to_str().unwrap_or_default(),
        error: SystemError(error),
    })
}

//! The root: the image, read-only, under a layer that takes what is written, in place of the initramfs. That layer is in
//! memory, or on the second disk if the machine has one. Knows nothing of the container.
//!
//! The old root stays below the new one, out of reach; a workload may pivot_root as on any machine.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};

use crate::errno::SystemError;
use crate::failure::{SetupError, refused, refused_file};

/// The image's directory moves with its files' data left in the image until it is written: a `chown -R` of a large
/// tree then costs no memory for contents.
const OVERLAY: &CStr =
    c"lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work,redirect_dir=on,metacopy=on";

/// Freed blocks go back to the host.
const DISK: &CStr = c"discard";

/// The two halves of the root, which have no other name any more.
#[derive(Debug)]
pub struct Layers {
    /// The image.
    pub lower: OwnedFd,
    /// What was written.
    pub upper: OwnedFd,
    /// Whether that is on a disk, and there when the machine is not.
    pub kept: bool,
}

/// Puts the image's root in place of the initramfs and goes there.
///
/// # Errors
/// A mount was refused: no disk, no image on it, or a kernel without one of the file systems.
pub fn assemble() -> Result<Layers, SetupError> {
    mount_on(
        c"devtmpfs",
        c"devtmpfs",
        c"/dev",
        MountFlags::NOEXEC | MountFlags::NOSUID,
        c"mode=755",
    )?;
    mount_on(c"/dev/vda", c"erofs", c"/lower", MountFlags::RDONLY, c"")?;
    let flags = MountFlags::empty();
    let kept = match mount(c"/dev/vdb", c"/upper", c"ext4", flags, DISK) {
        Ok(()) => true,
        Err(Errno::NOENT) => {
            mount_on(c"upper", c"tmpfs", c"/upper", flags, c"mode=755")?;
            false
        }
        Err(error) => {
            return Err(SetupError::Mount {
                what: "ext4",
                at: "/upper",
                error: SystemError(error),
            });
        }
    };
    for directory in [c"/upper/files", c"/upper/work"] {
        match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) if kept => {}
            Err(errno) => return Err(refused_file("create", directory.to_bytes())(errno)),
        }
    }
    let open = |path: &'static CStr| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(refused_file("open", path.to_bytes()))
    };
    let layers = Layers {
        lower: open(c"/lower")?,
        upper: open(c"/upper/files")?,
        kept,
    };
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
    rustix::process::chdir(c"/").map_err(refused_file("enter", b"/"))?;
    Ok(layers)
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

//! The root: the image, read-only, under a layer that takes what is written, in place of the initramfs. That layer is in
//! memory, or on a disk of its own if the machine has one. Instead of an image there may be a directory of the host, below such a
//! layer or without one. Knows nothing of the container.
//!
//! The disk is not touched before somebody asks for a process: copies of this machine have other disks, of which its kernel must
//! know nothing. Until then all else is made ready beside (`stage`).
//!
//! The old root stays below the new one, out of reach; a workload may pivot_root as on any machine.

use core::ffi::CStr;

use protocol::{LOWER_TAG, ROOT_TAG, VOLUMES_TAG};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};

use crate::errno::SystemError;
use crate::failure::{SetupError, refused, refused_file};
use crate::{ahead, furnish, volumes};

mod stage;

use stage::Stage;

/// The image's directory moves with its files' data left in the image until it is written: a `chown -R` of a large
/// tree then costs no memory for contents.
const OVERLAY: &CStr =
    c"lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work,redirect_dir=on,metacopy=on";

/// What the root is made of. The machine's devices say it: nobody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The image of the first disk, under a layer.
    Image,
    /// A directory of the host, under a layer.
    Lower,
    /// A directory of the host, which takes what is written itself.
    Direct,
}

impl Base {
    /// What the file system device is called in such a machine.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Image => VOLUMES_TAG,
            Self::Lower => LOWER_TAG,
            Self::Direct => ROOT_TAG,
        }
    }

    /// The disk that keeps what is written, if the machine has one: the one after the image's.
    fn disk(self) -> &'static CStr {
        match self {
            Self::Image => c"/dev/vdb",
            Self::Lower | Self::Direct => c"/dev/vda",
        }
    }
}

/// The two halves of the root, which have no other name any more.
#[derive(Debug)]
pub struct Layers {
    /// What they are made of.
    pub base: Base,
    /// The image, or the directory of the host.
    pub lower: OwnedFd,
    /// What was written; the same directory of the host where that takes it.
    pub upper: OwnedFd,
    /// Whether that is there when the machine is not.
    pub kept: bool,
}

/// The root, as far as it is.
pub enum Root {
    /// It is in its place.
    Whole(Layers),
    /// All of it but the layer that takes what is written, which will be on a disk.
    Staged(Stage),
}

impl Root {
    /// Mounts what is the same in every copy of this machine.
    ///
    /// # Errors
    /// A mount was refused: no image, or a kernel without one of the file systems.
    pub fn begin() -> Result<Self, SetupError> {
        mount_on(
            c"devtmpfs",
            c"devtmpfs",
            c"/dev",
            MountFlags::NOEXEC | MountFlags::NOSUID,
            c"mode=755",
        )?;
        let base = mount_base()?;
        if base == Base::Direct {
            let layers = Layers {
                base,
                lower: open(c"/merged")?,
                upper: open(c"/merged")?,
                kept: true,
            };
            return enter().map(|()| Self::Whole(layers));
        }
        if rustix::fs::stat(base.disk()).is_ok() {
            return Stage::new(base).map(Self::Staged);
        }
        let flags = MountFlags::empty();
        mount_on(c"upper", c"tmpfs", c"/upper", flags, c"mode=755")?;
        overlay(base, false).map(Self::Whole)
    }

    /// Has in it what does not depend on the container.
    ///
    /// # Errors
    /// The kernel or the image refuses something.
    pub fn furnish(&self) -> Result<(), SetupError> {
        match self {
            Self::Whole(layers) => {
                furnish::furnish(layers.kept)?;
                layers.read_ahead();
                Ok(())
            }
            Self::Staged(stage) => stage.furnish(),
        }
    }

    /// Reads a program of the image's.
    pub fn read_program(&self, program: &[u8], path: &[u8]) {
        match self {
            Self::Whole(_) => ahead::read(program, path),
            Self::Staged(stage) => stage.read_program(program, path),
        }
    }

    /// Mounts the disk, if there is one, and goes to the root.
    ///
    /// # Errors
    /// A mount was refused: what is on the disk is damaged.
    pub fn complete(self) -> Result<Layers, SetupError> {
        match self {
            Self::Whole(layers) => Ok(layers),
            Self::Staged(stage) => stage.complete(),
        }
    }
}

impl Layers {
    fn read_ahead(&self) {
        if self.base != Base::Image {
            volumes::read_ahead(&self.lower);
        }
    }
}

/// Puts the container's root, whose layers are mounted, in place of the initramfs and goes there.
fn overlay(base: Base, kept: bool) -> Result<Layers, SetupError> {
    for directory in [c"/upper/files", c"/upper/work"] {
        match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) if kept => {}
            Err(errno) => return Err(refused_file("create", directory.to_bytes())(errno)),
        }
    }
    let layers = Layers {
        base,
        lower: open(c"/lower")?,
        upper: open(c"/upper/files")?,
        kept,
    };
    let flags = MountFlags::empty();
    mount_on(c"overlay", c"overlay", c"/merged", flags, OVERLAY)?;
    enter().map(|()| layers)
}

/// Mounts what lies below the upper layer on `/lower`; a directory of the host that needs no such layer on `/merged`.
fn mount_base() -> Result<Base, SetupError> {
    let image = mount_on(c"/dev/vda", c"erofs", c"/lower", MountFlags::RDONLY, c"");
    let Err(error) = image else {
        return Ok(Base::Image);
    };
    // No disk, or one that has no image. What was wrong with it counts where there is no directory of the host instead.
    for (base, place) in [(Base::Direct, c"/merged"), (Base::Lower, c"/lower")] {
        let flags = MountFlags::empty();
        if mount(base.tag(), c"/lower", c"virtiofs", flags, None).is_ok() {
            mount_bind(c"/lower/0", place)
                .map_err(refused_file("mount the root on", place.to_bytes()))?;
            return Ok(base);
        }
    }
    Err(error)
}

/// Goes to what is mounted on `/merged`, which is the root then.
fn enter() -> Result<(), SetupError> {
    rustix::process::chdir(c"/merged").map_err(refused_file("enter", b"/merged"))?;
    mount_move(c".", c"/").map_err(refused("move the root into place"))?;
    rustix::process::chroot(c".").map_err(refused("change the root"))?;
    rustix::process::chdir(c"/").map_err(refused_file("enter", b"/"))
}

fn open(path: &'static CStr) -> Result<OwnedFd, SetupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(refused_file("open", path.to_bytes()))
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

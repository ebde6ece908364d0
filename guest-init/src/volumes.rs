//! Directories and files of the host, out of the one file system that has them all. Runs inside the root: links of the image on the
//! way to a mount point lead nowhere else.

use alloc::format;
use core::ffi::CStr;

use protocol::Volume;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::directory;
use crate::errno::SystemError;
use crate::failure::{SetupError, refused, refused_file};

mod fill;

/// Where the file system is mounted for as long as its parts are given their places.
const PLACE: &CStr = c"/dev/.volumes";

/// The file system that has them all, by a descriptor: its place may be hidden by a mount.
pub struct Source(OwnedFd);

impl Source {
    /// Mounts it by its device's name.
    ///
    /// # Errors
    /// There is no such device, or the kernel cannot use it.
    pub fn mount(tag: &str) -> Result<Self, SetupError> {
        rustix::fs::mkdir(PLACE, Mode::RWXU).map_err(refused_file("create", PLACE.to_bytes()))?;
        let flags = MountFlags::NODEV;
        mount(tag, PLACE, c"virtiofs", flags, None).map_err(|error| SetupError::Mount {
            what: "virtiofs",
            at: "/dev/.volumes",
            error: SystemError(error),
        })?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::open(PLACE, flags, Mode::empty());
        let source = Self(open.map_err(refused("open the file system of volumes"))?);
        read_ahead(&source.0);
        Ok(source)
    }

    /// Gives a part its place.
    ///
    /// # Errors
    /// The mount point cannot be made, or the host does not have the part any more.
    pub fn bind(&self, volume: &Volume) -> Result<(), SetupError> {
        let refused = refused_file("mount a volume on", &volume.path);
        let part = format!("/proc/self/fd/{}/{}", self.0.as_raw_fd(), volume.number);
        let status = rustix::fs::stat(part.as_str()).map_err(&refused)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            directory::create(&volume.path).map_err(&refused)?;
            if volume.fill {
                fill::fill(part.as_bytes(), &volume.path)
                    .map_err(refused_file("fill the volume on", &volume.path))?;
            }
        } else {
            create_file(&volume.path).map_err(&refused)?;
        }
        mount_bind(part.as_str(), &*volume.path).map_err(&refused)?;
        if volume.read_only {
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV;
            mount_remount(&*volume.path, flags, c"").map_err(&refused)?;
        }
        Ok(())
    }

    /// Leaves the parts where they are and nothing else.
    pub fn unmount(self) {
        let place = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        // What stays would be visible and harmless.
        let _ = unmount(place.as_str(), UnmountFlags::DETACH);
        drop(self);
        let _ = rustix::fs::rmdir(PLACE);
    }
}

/// Lets the kernel read as much ahead as the device takes at once: each request costs two changes of the world.
pub(crate) fn read_ahead(file: impl AsFd) {
    let allow = || {
        let device = rustix::fs::fstat(file)?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path.as_str(), flags, Mode::empty())?;
        rustix::io::write(&file, b"1024")
    };
    // Slower without it, and no worse.
    let _: Result<usize, Errno> = allow();
}

/// A file to mount another one on, where there is none.
pub(crate) fn create_file(path: &[u8]) -> Result<(), Errno> {
    if rustix::fs::stat(path).is_ok() {
        // It need not be writable.
        return Ok(());
    }
    if let Some(end) = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .filter(|end| *end > 0)
    {
        directory::create(path.get(..end).unwrap_or_default())?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map(drop)
}

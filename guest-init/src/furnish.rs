//! What every container finds in its root: the kernel's file systems, device nodes, links, loopback. Runs inside the new root, so that no link of an image leads anywhere else.
//!
//! `/tmp` and `/run` are file systems of their own in memory where the image leaves them empty; where it does not, its
//! content stays visible (and is in memory all the same once written, through the overlay).

use alloc::format;
use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, makedev};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::errno::SystemError;
use crate::failure::{SetupError, refused, refused_file};
use crate::sys;

struct Mount {
    kind: &'static CStr,
    at: &'static CStr,
    flags: MountFlags,
    options: &'static CStr,
}

const NOTHING_SPECIAL: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DATA_ONLY: MountFlags = NOTHING_SPECIAL.union(MountFlags::NOEXEC);

/// In this order: a mount point may lie on the mount before. Options are docker's.
const MOUNTS: [Mount; 7] = [
    Mount {
        kind: c"proc",
        at: c"/proc",
        flags: DATA_ONLY,
        options: c"",
    },
    Mount {
        kind: c"sysfs",
        at: c"/sys",
        flags: DATA_ONLY,
        options: c"",
    },
    Mount {
        kind: c"cgroup2",
        at: c"/sys/fs/cgroup",
        flags: DATA_ONLY,
        options: c"",
    },
    Mount {
        kind: c"tmpfs",
        at: c"/dev",
        flags: MountFlags::NOSUID,
        options: c"mode=755,size=64k",
    },
    Mount {
        kind: c"devpts",
        at: c"/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    },
    Mount {
        kind: c"tmpfs",
        at: c"/dev/shm",
        flags: DATA_ONLY,
        options: c"mode=1777,size=64m",
    },
    Mount {
        kind: c"mqueue",
        at: c"/dev/mqueue",
        flags: DATA_ONLY,
        options: c"",
    },
];

/// Docker's device nodes: name, major, minor (Documentation/admin-guide/devices.txt). All may be used by all.
const NODES: [(&CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/dev/fd", c"/proc/self/fd"),
    (c"/dev/stdin", c"/proc/self/fd/0"),
    (c"/dev/stdout", c"/proc/self/fd/1"),
    (c"/dev/stderr", c"/proc/self/fd/2"),
    (c"/dev/ptmx", c"pts/ptmx"),
];

/// Directories with a file system of their own if the image leaves them empty, and the mode of one it does not have.
pub(crate) const SCRATCH: [(&CStr, u32); 2] = [(c"/tmp", 0o1777), (c"/run", 0o755)];

/// All that does not depend on the container: file systems, nodes, links, loopback. With a root that is `kept`, so is what
/// is written to the directories that are otherwise in memory.
///
/// # Errors
/// The kernel or the image refuses something; the message says what.
pub fn furnish(kept: bool) -> Result<(), SetupError> {
    // Modes below are meant as they stand.
    let _ = rustix::process::umask(Mode::empty());
    for entry in &MOUNTS {
        attach(entry)?;
    }
    for (path, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .map_err(refused_file("create", path.to_bytes()))?;
    }
    for (path, target) in LINKS {
        rustix::fs::symlink(target, path).map_err(refused_file("create", path.to_bytes()))?;
    }
    for (path, mode) in SCRATCH {
        if !kept {
            scratch(path, mode)?;
        }
    }
    give_back()?;
    sys::loopback_up().map_err(refused("bring the loopback interface up"))
}

/// Has each processor keep a thousandth of memory at most in free pages of its own (Documentation/admin-guide/sysctl/vm.rst):
/// left to itself it keeps up to an eighth, as long as the guest idles, and blocks that these pages are of do not go back to
/// the host.
fn give_back() -> Result<(), SetupError> {
    const FRACTION: &CStr = c"/proc/sys/vm/percpu_pagelist_high_fraction";
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(FRACTION, flags, Mode::empty());
    file.and_then(|file| rustix::io::write(&file, b"1000"))
        .map(drop)
        .map_err(refused_file("write", FRACTION.to_bytes()))
}

fn attach(entry: &Mount) -> Result<(), SetupError> {
    let try_it = || mount(entry.kind, entry.at, entry.kind, entry.flags, entry.options);
    let mut result = try_it();
    if result == Err(Errno::NOENT) {
        create_directory(entry.at, 0o755)?;
        result = try_it();
    }
    result.map_err(|error| SetupError::Mount {
        what: entry.kind.to_str().unwrap_or_default(),
        at: entry.at.to_str().unwrap_or_default(),
        error: SystemError(error),
    })
}

pub(crate) fn create_directory(path: &CStr, mode: u32) -> Result<(), SetupError> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode))
        .map_err(refused_file("create", path.to_bytes()))
}

/// A file system in memory on an empty directory, with that directory's owner and mode.
fn scratch(path: &'static CStr, mode: u32) -> Result<(), SetupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => {
            create_directory(path, mode)?;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(refused_file("open", path.to_bytes()))?
        }
        // A link or a file: the image's own affair.
        Err(_) => return Ok(()),
    };
    if !is_empty(&directory).map_err(refused_file("read", path.to_bytes()))? {
        return Ok(());
    }
    let status = rustix::fs::fstat(&directory).map_err(refused_file("read", path.to_bytes()))?;
    let options = format!(
        "mode={:o},uid={},gid={}\0",
        status.st_mode & 0o7777,
        status.st_uid,
        status.st_gid
    );
    let options = CStr::from_bytes_until_nul(options.as_bytes()).unwrap_or_default();
    mount(c"tmpfs", path, c"tmpfs", NOTHING_SPECIAL, options).map_err(|error| SetupError::Mount {
        what: "tmpfs",
        at: path.to_str().unwrap_or_default(),
        error: SystemError(error),
    })
}

fn is_empty(directory: &OwnedFd) -> Result<bool, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        if ![c".", c".."].contains(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

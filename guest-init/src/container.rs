//! What the host says of this one container: its name and network files, kernel parameters, file systems in memory, and
//! what is hidden or read-only. Runs inside the root, before any process of the container.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ffi::CStr;

use protocol::{Container, Sysctl, Tmpfs, Volume};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::failure::{SetupError, refused, refused_file};
use crate::root::Base;
use crate::{directory, furnish, network, volumes};

/// Docker's: what tells of the host's hardware and kernel. A file is covered by /dev/null, a directory by an empty one.
const HIDDEN: [&CStr; 11] = [
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/timer_list",
    c"/sys/devices/virtual/powercap",
    c"/sys/firmware",
];

/// Docker's: what changes the kernel for everyone.
const READ_ONLY: [&CStr; 5] = [
    c"/proc/bus",
    c"/proc/fs",
    c"/proc/irq",
    c"/proc/sys",
    c"/proc/sysrq-trigger",
];

/// As above, but mounts of their own.
const READ_ONLY_MOUNTS: [&CStr; 2] = [c"/sys", c"/sys/fs/cgroup"];

/// What docker gives to privileged containers alone and this kernel has: name, major, minor, mode.
const PRIVILEGED_NODES: [(&CStr, u32, u32, u32); 3] = [
    (c"/dev/kmsg", 1, 11, 0o644),
    (c"/dev/fuse", 10, 229, 0o666),
    (c"/dev/net/tun", 10, 200, 0o666),
];

/// Makes the root this container's own.
///
/// # Errors
/// The name is too long, the image has something in the way of a file or mount, or the kernel refuses a parameter.
pub fn furnish(container: &Container, base: Base) -> Result<(), SetupError> {
    let hostname = &container.hostname;
    if !hostname.is_empty() {
        rustix::system::sethostname(hostname).map_err(refused("set the host name"))?;
    }
    let line = [hostname, b"\n".as_slice()].concat();
    let put = match base {
        // The host's own files stay as they are.
        Base::Direct => cover,
        Base::Image | Base::Lower => write_anew,
    };
    put(c"/etc/hostname", &line)?;
    let files = [
        (c"/etc/hosts", &container.hosts),
        (c"/etc/resolv.conf", &container.resolv_conf),
    ];
    for (path, content) in files {
        if let Some(content) = content {
            put(path, content)?;
        }
    }
    // A parameter may take an address away again.
    if let Some(card) = &container.network {
        network::configure(card)?;
    }
    for sysctl in &container.sysctls {
        set(sysctl)?;
    }
    if let Some(size) = container.shm_size {
        let options = terminated(format!("size={size}").as_bytes())?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(c"/dev/shm", flags, options.as_c_str())
            .map_err(refused_file("resize", b"/dev/shm"))?;
    }
    if container.read_only {
        for path in furnish::SCRATCH.map(|(path, _)| path) {
            match unmount(path, UnmountFlags::DETACH) {
                // Not a mount: the image's own, and read-only with it.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(refused_file("unmount", path.to_bytes())(errno)),
            }
        }
    }
    mount_all(container, base)?;
    if !container.confined {
        directory::create(b"/dev/net").map_err(refused_file("create", b"/dev/net"))?;
        for (path, major, minor, mode) in PRIVILEGED_NODES {
            let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(mode));
            rustix::fs::mknodat(CWD, path, kind, mode, makedev(major, minor))
                .map_err(refused_file("create", path.to_bytes()))?;
        }
    }
    if container.confined {
        for path in HIDDEN {
            hide(path).map_err(refused_file("hide", path.to_bytes()))?;
        }
        for path in READ_ONLY {
            protect(path).map_err(refused_file("protect", path.to_bytes()))?;
        }
        for path in READ_ONLY_MOUNTS {
            make_read_only(path).map_err(refused_file("protect", path.to_bytes()))?;
        }
    }
    if container.read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(c"/", flags, c"").map_err(refused("make the root read-only"))?;
    }
    Ok(())
}

/// A name with dots is a path with slashes below /proc/sys; nothing else of it can lead anywhere.
fn set(sysctl: &Sysctl) -> Result<(), SetupError> {
    let refused = refused_file("set the kernel parameter", &sysctl.name);
    let below: Vec<u8> = sysctl
        .name
        .iter()
        .map(|byte| if *byte == b'.' { b'/' } else { *byte })
        .collect();
    if below.split(|byte| *byte == b'/').any(<[u8]>::is_empty) {
        return Err(refused(Errno::NOENT));
    }
    let path = terminated(&[b"/proc/sys/", below.as_slice()].concat())?;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.as_c_str(), flags, Mode::empty()).map_err(&refused)?;
    rustix::io::write(&file, &sysctl.value)
        .map_err(&refused)
        .map(drop)
}

/// File systems in memory and of the host, each after those that it may lie on.
fn mount_all(container: &Container, base: Base) -> Result<(), SetupError> {
    enum Wanted<'a> {
        Tmpfs(&'a Tmpfs),
        Volume(&'a Volume),
    }
    let tmpfs = container.tmpfs.iter();
    let tmpfs = tmpfs.map(|tmpfs| (&tmpfs.path, Wanted::Tmpfs(tmpfs)));
    let volumes = container.volumes.iter();
    let volumes = volumes.map(|volume| (&volume.path, Wanted::Volume(volume)));
    let mut wanted: Vec<_> = tmpfs.chain(volumes).collect();
    wanted.sort_by_key(|(path, _)| *path);
    let source = match container.volumes.is_empty() {
        true => None,
        false => Some(volumes::Source::mount(base.tag())?),
    };
    for (_, wanted) in wanted {
        match (wanted, &source) {
            (Wanted::Tmpfs(tmpfs), _) => add(tmpfs)?,
            (Wanted::Volume(volume), Some(source)) => source.bind(volume)?,
            (Wanted::Volume(_), None) => {}
        }
    }
    if let Some(source) = source {
        source.unmount();
    }
    Ok(())
}

fn add(tmpfs: &Tmpfs) -> Result<(), SetupError> {
    let refused = refused_file("mount a tmpfs on", &tmpfs.path);
    directory::create(&tmpfs.path).map_err(&refused)?;
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, tmpfs.flags.read_only);
    flags.set(MountFlags::NOEXEC, tmpfs.flags.no_exec);
    flags.set(MountFlags::NODEV, tmpfs.flags.no_dev);
    flags.set(MountFlags::NOSUID, tmpfs.flags.no_suid);
    let options = terminated(&tmpfs.options)?;
    mount(c"tmpfs", &*tmpfs.path, c"tmpfs", flags, options.as_c_str()).map_err(refused)
}

/// Covers a path; one that this kernel does not have needs no cover.
fn hide(path: &CStr) -> Result<(), Errno> {
    match rustix::fs::stat(path) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
        Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Directory => {
            mount(c"tmpfs", path, c"tmpfs", MountFlags::RDONLY, c"size=0k")
        }
        Ok(_) => mount_bind(c"/dev/null", path),
    }
}

/// Makes a path read-only: over itself, so that nothing beside it changes. What was forbidden there stays so.
fn protect(path: &CStr) -> Result<(), Errno> {
    match mount_bind(path, path) {
        Ok(()) => make_read_only(path),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// This mount of a kernel's file system, not the file system.
fn make_read_only(path: &CStr) -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(path, flags | MountFlags::BIND | MountFlags::RDONLY, c"")
}

/// Has a file of the container's own in the place of one of /etc, as docker has: the file there stays as it is, and an empty one is
/// made where there is none.
fn cover(path: &CStr, content: &[u8]) -> Result<(), SetupError> {
    const BESIDE: &CStr = c"/dev/shm/.beside";
    let refused = refused_file("cover", path.to_bytes());
    write_anew(BESIDE, content)?;
    let place = end_of_links(path.to_bytes());
    volumes::create_file(&place).map_err(&refused)?;
    mount_bind(BESIDE, &*place).map_err(&refused)?;
    // The mount alone has it then.
    rustix::fs::unlink(BESIDE).map_err(refused)
}

/// Where a path leads whose last part may be a link, also to what is not there yet.
fn end_of_links(path: &[u8]) -> Vec<u8> {
    const MOST: usize = 40;
    let mut path = path.to_vec();
    for _ in 0..MOST {
        let Ok(target) = rustix::fs::readlink(path.as_slice(), Vec::new()) else {
            break;
        };
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let length = slash.map_or(0, |at| at + 1);
        let directory = match target.to_bytes() {
            [b'/', ..] => &[],
            _ => path.get(..length).unwrap_or_default(),
        };
        path = [directory, target.to_bytes()].concat();
    }
    path
}

/// Writes a file of /etc anew, in its old place: a full disk has room for no other. A link there is replaced, not followed: it
/// may lead to what does not exist yet.
fn write_anew(path: &CStr, content: &[u8]) -> Result<(), SetupError> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
    let file = match open() {
        Err(Errno::LOOP) => {
            rustix::fs::unlink(path).map_err(refused_file("replace", path.to_bytes()))?;
            open()
        }
        Err(Errno::NOENT) => {
            directory::create(b"/etc").map_err(refused_file("create", b"/etc"))?;
            open()
        }
        result => result,
    };
    let file = file.map_err(refused_file("write", path.to_bytes()))?;
    // Whatever the image's had: every user looks names up.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))
        .map_err(refused_file("write", path.to_bytes()))?;
    let mut rest = content;
    while !rest.is_empty() {
        let written =
            rustix::io::write(&file, rest).map_err(refused_file("write", path.to_bytes()))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::ftruncate(&file, content.len() as u64)
        .map_err(refused_file("write", path.to_bytes()))
}

fn terminated(text: &[u8]) -> Result<CString, SetupError> {
    CString::new(text).map_err(|error| SetupError::ZeroByte {
        what: "option",
        value: error.into_vec().escape_ascii().to_string(),
    })
}

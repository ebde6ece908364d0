//! The layers of the jail that are the whole process's, one function each. Refuses to know their order.

use std::io;
use std::os::fd::RawFd;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, getpid, getrlimit, getuid, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::sys;

/// More than the most connections, devices and vCPUs take together.
const MOST_DESCRIPTORS: u64 = 512;

/// Started by root, the process becomes this plus its process number: nobody's, and no two VMMs' at a time. No distribution
/// hands these out.
const FIRST_USER: u32 = 0x7000_0000;
/// `nobody`, where only a part of all numbers exists.
const NOBODY: u32 = 65534;

/// The version of Landlock that came after processes were counted by user and user namespace (Linux 5.14).
pub(super) const COUNTS_BY_NAMESPACE: u32 = 2;

/// Rights over files that Landlock knows, from each version on.
const FILE_RIGHTS: [(u32, u64); 4] = [
    (1, (1 << 13) - 1),
    (2, 1 << 13), // link and rename between directories
    (3, 1 << 14), // truncate
    (5, 1 << 15), // ioctl on devices
];
/// Binding TCP sockets, and connecting them.
const BIND_RIGHT: (u32, u64) = (4, 0b01);
const CONNECT_RIGHT: (u32, u64) = (4, 0b10);
/// Abstract Unix sockets and signals.
const SCOPES: (u32, u64) = (6, 0b11);

/// No program that it would execute could gain anything; filters and Landlock ask for this.
pub(super) fn no_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Closes descriptors `first` to `last`.
pub(super) fn close(first: RawFd, last: RawFd) -> io::Result<()> {
    match last < first {
        true => Ok(()),
        false => sys::close_range(first, last),
    }
}

/// No core dumps, few descriptors unless it needs one for each of a guest's flows, and no growing files unless it writes some.
pub(super) fn limit(writes: bool, network: bool) -> io::Result<()> {
    most(Resource::Core, 0)?;
    if network {
        // As far as the user's own limit goes.
        raise(
            Resource::Nofile,
            MOST_DESCRIPTORS + ::network::MOST_DESCRIPTORS,
        )?;
    } else {
        most(Resource::Nofile, MOST_DESCRIPTORS)?;
    }
    if !writes {
        // Its journal is all that a network writes.
        let longest = if network { ::network::LONGEST_FILE } else { 0 };
        most(Resource::Fsize, longest)?;
    }
    Ok(())
}

/// So many threads.
pub(super) fn limit_threads(count: u64) -> io::Result<()> {
    most(Resource::Nproc, count)
}

fn raise(resource: Resource, value: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum;
    let value = Some(hard.map_or(value, |hard| hard.min(value)));
    let limit = Rlimit {
        current: value,
        maximum: value,
    };
    Ok(setrlimit(resource, limit)?)
}

fn most(resource: Resource, value: u64) -> io::Result<()> {
    let now = getrlimit(resource);
    let least = |limit: Option<u64>| Some(limit.map_or(value, |limit| limit.min(value)));
    let limit = Rlimit {
        current: least(now.current),
        maximum: least(now.maximum),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Root becomes nobody.
pub(super) fn leave_root() -> io::Result<()> {
    if !getuid().is_root() {
        return Ok(());
    }
    let own = FIRST_USER.wrapping_add(getpid().as_raw_nonzero().get().cast_unsigned());
    become_user(own).or_else(|_| become_user(NOBODY))
}

fn become_user(number: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// New and empty ones of everything that has namespaces, but processes, and but networks for who is one.
pub(super) fn leave_namespaces(network: bool) -> io::Result<()> {
    let net = if network { 0 } else { libc::CLONE_NEWNET };
    sys::unshare(
        net | libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
    )
}

/// The root directory becomes an empty, read-only file system that is mounted nowhere.
pub(super) fn leave_root_directory() -> io::Result<()> {
    let empty = sys::mount_nowhere()?;
    rustix::process::fchdir(&empty)?;
    Ok(rustix::process::chroot(".")?)
}

/// The host's Landlock version; 0 is none.
pub(super) fn landlock_version() -> u32 {
    sys::landlock_version().unwrap_or(0)
}

/// Forbids all that this version of Landlock can forbid, but connecting to who is a network: the ports it serves are bound
/// already.
pub(super) fn landlock(version: u32, network: bool) -> io::Result<()> {
    if version == 0 {
        return Err(Errno::NOSYS.into());
    }
    let since = |(first, rights): (u32, u64)| if version >= first { rights } else { 0 };
    let files = FILE_RIGHTS
        .into_iter()
        .fold(0, |all, some| all | since(some));
    let connect = if network { 0 } else { since(CONNECT_RIGHT) };
    sys::forbid(files, since(BIND_RIGHT) | connect, since(SCOPES))
}

/// A new user namespace gives its maker all capabilities inside it.
pub(super) fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}

/// Nobody may look into its memory: no core, no ptrace, no `/proc/PID/mem` for its user.
pub(super) fn forbid_dumps() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

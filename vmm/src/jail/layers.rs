//! The layers of the jail that are the whole process's, one function each. Refuses to know their order.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, getegid, geteuid, getpid, getrlimit, getuid,
    setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::shares::Shares;
use crate::sys;

/// More than the most connections, devices and vCPUs take together.
pub(crate) const MOST_DESCRIPTORS: u64 = 512;
/// What serving files may take besides, where the host's limit is as high.
const MOST_OPEN_FILES: u64 = 32 << 10;

/// Rights over files that are not those of the process's user: to serve those of all users, or those whose modes keep even their
/// owner out.
pub(super) const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

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
/// Landlock's rights to read a file and a directory.
const READING: u64 = 1 << 2 | 1 << 3;
/// To execute, to make device nodes, and to speak to devices: nobody's in a share.
const NEVER: u64 = 1 | 1 << 6 | 1 << 11 | 1 << 15;
/// Those that a rule for a file alone can give: execute, write, read, truncate.
const OF_FILES: u64 = 0b111 | 1 << 14;
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

/// No core dumps, few descriptors unless it needs one for each of a guest's flows or serves files, and no growing files unless it
/// writes some.
pub(super) fn limit(writes: bool, journal: bool, sockets: bool, files: bool) -> io::Result<()> {
    most(Resource::Core, 0)?;
    if sockets || files {
        let flows = if sockets {
            ::network::MOST_DESCRIPTORS
        } else {
            0
        };
        let open = if files { MOST_OPEN_FILES } else { 0 };
        // As far as the user's own limit goes.
        raise(Resource::Nofile, MOST_DESCRIPTORS + flows + open)?;
    } else {
        most(Resource::Nofile, MOST_DESCRIPTORS)?;
    }
    if !writes {
        // Its journal is all that a network writes.
        let longest = if journal { ::network::LONGEST_FILE } else { 0 };
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

/// This process's number in the host's `/proc`: in its own namespace each is the first. For root alone, who becomes a user by it.
pub(super) fn own_number() -> u32 {
    let from = || {
        std::fs::read_link("/proc/self")
            .ok()?
            .to_str()?
            .parse()
            .ok()
    };
    let own = || getpid().as_raw_nonzero().get().cast_unsigned();
    match getuid().is_root() {
        true => from().unwrap_or_else(own),
        false => own(),
    }
}

/// Root becomes nobody.
pub(super) fn leave_root(number: u32) -> io::Result<()> {
    if !getuid().is_root() {
        return Ok(());
    }
    become_user(FIRST_USER.wrapping_add(number)).or_else(|_| become_user(NOBODY))
}

fn become_user(number: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// All kinds that are left, but networks for who is one.
fn namespaces(network: bool) -> i32 {
    NAMESPACES | if network { 0 } else { libc::CLONE_NEWNET }
}

/// New and empty ones of everything that has namespaces, but processes. Where it serves `files` the user and group keep their
/// numbers, so that their files are theirs.
pub(super) fn leave_namespaces(network: bool, files: bool) -> io::Result<()> {
    let user = User::own();
    sys::unshare(libc::CLONE_NEWUSER | namespaces(network))?;
    if files {
        // The maps of a process that may not be looked into are root's to write.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        let kept = user.keep();
        forbid_dumps()?;
        kept?;
    }
    Ok(())
}

/// A process's user and group.
#[derive(Clone, Copy)]
pub(super) struct User {
    user: Uid,
    group: Gid,
}

impl User {
    /// Those of the calling process.
    pub(super) fn own() -> Self {
        Self {
            user: geteuid(),
            group: getegid(),
        }
    }

    /// In a new user namespace, which has nobody yet: keeps their numbers.
    pub(super) fn keep(self) -> io::Result<()> {
        let line = |number: u32| format!("{number} {number} 1");
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", line(self.user.as_raw()))?;
        std::fs::write("/proc/self/gid_map", line(self.group.as_raw()))
    }
}

/// The same but for the user namespace, in which root would be root of nothing.
pub(super) fn leave_namespaces_as_root(network: bool) -> io::Result<()> {
    match getuid().is_root() {
        true => sys::unshare(namespaces(network)),
        false => Err(Errno::PERM.into()),
    }
}

/// Root becomes nobody, with root's rights over files.
pub(super) fn leave_root_keeping_capabilities(number: u32) -> io::Result<()> {
    set_keep_capabilities(true)?;
    let left = leave_root(number);
    set_keep_capabilities(false)?;
    left
}

/// A directory, opened for what can be found in it.
pub(super) fn open_directory(path: &str) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
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

/// What is allowed in a share.
pub(super) fn share_rights(read_only: bool, directory: bool) -> u64 {
    let all = FILE_RIGHTS.into_iter().fold(0, |all, (_, some)| all | some);
    let rights = if read_only { READING } else { all & !NEVER };
    if directory { rights } else { rights & OF_FILES }
}

/// Forbids all that this version of Landlock can forbid, but what `shares` are for, and connecting to who is a network: the ports
/// it serves are bound already.
pub(super) fn landlock(version: u32, network: bool, shares: &Shares) -> io::Result<()> {
    if version == 0 {
        return Err(Errno::NOSYS.into());
    }
    let since = |(first, rights): (u32, u64)| if version >= first { rights } else { 0 };
    let files = FILE_RIGHTS
        .into_iter()
        .fold(0, |all, some| all | since(some));
    let connect = if network { 0 } else { since(CONNECT_RIGHT) };
    let allowed = shares
        .rights()
        .map(|(share, rights)| (share, rights & files));
    sys::forbid(files, since(BIND_RIGHT) | connect, since(SCOPES), allowed)
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

/// All but those over files.
pub(super) fn keep_file_capabilities() -> io::Result<()> {
    let kept = CapabilitySets {
        effective: FILE_CAPABILITIES,
        permitted: FILE_CAPABILITIES,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, kept)?)
}

/// Nobody may look into its memory: no core, no ptrace, no `/proc/PID/mem` for its user.
pub(super) fn forbid_dumps() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

//! System calls of the jail. Refuses to know their order.

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};

use rustix::process::Pid;

use super::{made, owned};

/// Closes this process's descriptors `first` to `last`. Whoever still owns one of them gets EBADF from then on.
pub(crate) fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers only. No owner of a descriptor relies on it for memory.
    made(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Moves this process, which has a single thread, into new namespaces (`CLONE_NEW*`).
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: takes a number. Namespaces change what names mean, not memory or descriptors.
    made(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Makes a process in new namespaces of these kinds (`CLONE_NEW*`), and in this control group if one is given, which does `act` and
/// ends with what that gives, unless it executes a program. Until then it works in this process's memory and the calling thread waits, so `act` may write to what it borrows.
pub(crate) fn spawn(
    namespaces: i32,
    group: Option<BorrowedFd<'_>>,
    mut act: impl FnMut() -> i32,
) -> io::Result<Pid> {
    /// What is left for `act`, in units that keep it aligned.
    const STACK: usize = (64 << 10) / size_of::<u128>();
    extern "C" fn child(act: *mut libc::c_void) -> i32 {
        // SAFETY: `spawn` gave a pointer to its `act` and waits until this process has left its memory.
        let act = unsafe { &mut *act.cast::<&mut dyn FnMut() -> i32>() };
        // A program begins with all signals let through.
        swap_signals(&Signals::none());
        act()
    }
    let mut stack = Vec::<u128>::with_capacity(STACK);
    let mut act: &mut dyn FnMut() -> i32 = &mut act;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | namespaces;
    let stack = stack.as_mut_ptr();
    let stack = stack..stack.wrapping_add(STACK);
    let act = (&raw mut act).cast();
    // What a handler did in the child would be done to this process.
    let before = swap_signals(&Signals::all());
    let made = match group {
        None => {
            // SAFETY: the stack is the child's alone; it and `act` live until it has left them (CLONE_VFORK).
            let id = unsafe { libc::clone(child, stack.end.cast(), flags | libc::SIGCHLD, act) };
            made(id.into())
        }
        // SAFETY: the same.
        Some(group) => unsafe { clone_into(group, child, &stack, flags, act) },
    };
    swap_signals(&before);
    let id = i32::try_from(made?).map_err(io::Error::other)?;
    Pid::from_raw(id).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `clone` into a control group, which libc has no function for: gives the child's number.
///
/// # Safety
///
/// As for `clone`: nobody else uses the stack while the child does, and `argument` is good for `child`.
unsafe fn clone_into(
    group: BorrowedFd<'_>,
    child: extern "C" fn(*mut libc::c_void) -> i32,
    stack: &Range<*mut u128>,
    flags: i32,
    argument: *mut libc::c_void,
) -> io::Result<i64> {
    const INTO_GROUP: u64 = 0x2_0000_0000;
    let number = |number: i32| u64::from(number.unsigned_abs());
    let length = stack.end.addr() - stack.start.addr();
    // SAFETY: numbers, and pointers that may be null.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = number(flags) | INTO_GROUP;
    arguments.exit_signal = number(libc::SIGCHLD);
    arguments.stack = u64::try_from(stack.start.expose_provenance()).unwrap_or(0);
    arguments.stack_size = u64::try_from(length).unwrap_or(0);
    arguments.cgroup = number(group.as_raw_fd());
    let result: i64;
    // SAFETY: the parent goes on behind the call with one register changed and two lost. The child finds an empty stack, aligned as a
    // function wants it, calls `child` and ends there.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const arguments,
            in("rsi") size_of_val(&arguments),
            in("r12") child,
            in("r13") argument,
            out("rcx") _,
            out("r11") _,
        );
    }
    match result {
        ..0 => Err(io::Error::from_raw_os_error(
            i32::try_from(-result).unwrap_or(0),
        )),
        id => Ok(id),
    }
}

/// A set of signals.
struct Signals(libc::sigset_t);

impl Signals {
    fn none() -> Self {
        // SAFETY: bits, none of which is set.
        Self(unsafe { std::mem::zeroed() })
    }

    fn all() -> Self {
        let mut set = Self::none();
        // SAFETY: it is a set.
        unsafe { libc::sigfillset(&raw mut set.0) };
        set
    }
}

/// Blocks these in the calling thread, and no others; gives those that were.
fn swap_signals(set: &Signals) -> Signals {
    let mut before = Signals::none();
    // SAFETY: both are sets that live for the call. It cannot fail with this operation.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set.0, &raw mut before.0) };
    before
}

/// Becomes another program, with at most three arguments, its name included, and no environment. Returns only if that failed.
pub(crate) fn execute(program: &CStr, arguments: &[&CStr]) -> io::Error {
    let (mut all, none) = ([null(); 4], [null()]);
    for (to, from) in all.iter_mut().take(3).zip(arguments) {
        *to = from.as_ptr();
    }
    // SAFETY: strings that end in a zero, in lists that end in a null pointer, which live for the call.
    unsafe { libc::execve(program.as_ptr(), all.as_ptr(), none.as_ptr()) };
    io::Error::last_os_error()
}

/// An empty file system, read-only, mounted nowhere.
pub(crate) fn mount_nowhere() -> io::Result<OwnedFd> {
    const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let (kind, cloexec) = (c"ramfs".as_ptr(), 1);
    // SAFETY: the name is a constant that ends in a zero.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind, cloexec) })?;
    let (raw, create, none) = (context.as_raw_fd(), 6, null_mut::<libc::c_void>());
    // SAFETY: FSCONFIG_CMD_CREATE takes no key and no value.
    made(unsafe { libc::syscall(libc::SYS_fsconfig, raw, create, none, none, 0) })?;
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, raw, cloexec, READ_ONLY) })
}

/// The version of this host's Landlock.
pub(crate) fn landlock_version() -> io::Result<u32> {
    let (nothing, ask) = (null_mut::<libc::c_void>(), 1);
    // SAFETY: asked for its version, the call reads no memory.
    let version =
        made(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, ask) })?;
    u32::try_from(version).map_err(io::Error::other)
}

/// A mount of what `path` leads to, in no tree; with all that is mounted beneath, if `whole`.
pub(crate) fn clone_mount(path: &std::path::Path, whole: bool) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let beneath = if whole { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | beneath.cast_unsigned();
    // SAFETY: the path ends in a zero and lives for the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// Nothing on a mount of one's own is a device or gives rights, and nothing changes if it is `read_only`.
pub(crate) fn restrict_mount(mount: &OwnedFd, read_only: bool) -> io::Result<()> {
    let only = if read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    let attributes = libc::mount_attr {
        attr_set: only | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let (raw, here) = (mount.as_raw_fd(), c"".as_ptr());
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    let (attributes, length) = (&raw const attributes, size_of_val(&attributes));
    // SAFETY: the kernel reads `length` bytes of `attributes`, which live for the call, and a path that is a constant.
    made(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            raw,
            here,
            flags,
            attributes,
            length,
        )
    })
    .map(drop)
}

/// Takes these rights over files, networks and other processes from this process by Landlock, everywhere but for the rights over
/// what is beneath each of `allowed`.
pub(crate) fn forbid<'a>(
    files: u64,
    network: u64,
    scopes: u64,
    allowed: impl Iterator<Item = (BorrowedFd<'a>, u64)>,
) -> io::Result<()> {
    /// `landlock_path_beneath_attr`
    #[repr(C, packed)]
    struct Beneath {
        rights: u64,
        descriptor: i32,
    }
    const PATH_BENEATH: i32 = 1;
    let rules = [files, network, scopes];
    // Older versions know a shorter structure and refuse one that goes on with anything but zeros.
    let length = size_of_val(&rules);
    // SAFETY: the kernel reads `length` bytes, which `rules` has.
    let rules = owned(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, rules.as_ptr(), length, 0)
    })?;
    for (descriptor, rights) in allowed {
        let beneath = Beneath {
            rights,
            descriptor: descriptor.as_raw_fd(),
        };
        let (call, raw) = (libc::SYS_landlock_add_rule, rules.as_raw_fd());
        // SAFETY: the kernel reads the structure, which is its own and lives for the call.
        made(unsafe { libc::syscall(call, raw, PATH_BENEATH, &raw const beneath, 0) })?;
    }
    // SAFETY: takes numbers only.
    made(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) }).map(drop)
}

/// Fails where filters that kill the process are not to be had.
pub(crate) fn can_kill_by_filter() -> io::Result<()> {
    let answer = libc::SECCOMP_RET_KILL_PROCESS;
    let question = libc::SECCOMP_GET_ACTION_AVAIL;
    // SAFETY: the kernel reads the four bytes of `answer`.
    made(unsafe { libc::syscall(libc::SYS_seccomp, question, 0, &raw const answer) }).map(drop)
}

/// Lets `program` decide over every later system call of the calling thread.
pub(crate) fn filter_calls(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    let order = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies `len` instructions, which the slice has, checks them, and writes nothing.
    made(unsafe { libc::syscall(libc::SYS_seccomp, order, 0, &raw const program) }).map(drop)
}

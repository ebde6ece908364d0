//! The only unsafe code of this package: what rustix does not offer. Knows no policy: each function is one thing asked
//! of the system. `sys/bare.rs`, part of the binary alone, is what a C library would be.

#![expect(unsafe_code, reason = "system interfaces that have no safe wrapper")]

pub mod heap;
pub mod memory;

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::mem;
use core::ptr;

use linux_raw_sys::general::{
    __NR_clone3, __NR_close_range, __NR_connect, __NR_execve, __NR_exit_group, __NR_ioctl,
    __NR_kill, __NR_prlimit64, __NR_rt_sigprocmask, __NR_seccomp, __NR_setsockopt, __NR_signalfd4,
    __NR_unshare, CLONE_INTO_CGROUP, CLONE_NEWCGROUP, O_CLOEXEC, O_NONBLOCK, SIG_BLOCK,
    SIG_SETMASK, SIGCHLD, clone_args,
};
use linux_raw_sys::ioctl::SIOCSIFFLAGS;
use linux_raw_sys::net::{ifreq, net_device_flags};
use linux_raw_sys::vm_sockets::{SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD, VMADDR_CID_HOST, sockaddr_vm};
use protocol::Limit;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// seccomp(2): the program filters from now on.
const SECCOMP_SET_MODE_FILTER: usize = 1;

/// A process of the guest, as the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(pub i32);

/// The time stamp counter.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and nothing sets CR4.TSD before this runs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// One system call.
///
/// # Safety
/// The arguments must be what this call may be given, pointers valid for what it does with them.
unsafe fn call(number: u32, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [first, second, third, fourth, fifth] = arguments;
    let result: isize;
    // SAFETY: the caller answers for the arguments. The instruction changes rax, rcx and r11, and memory only where the
    // call is told to.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(Errno::from_raw_os_error(
            i32::try_from(-result).unwrap_or(i32::MAX),
        )),
    }
}

/// A number as a register holds it, sign and all.
fn register(number: i32) -> usize {
    (number as isize).cast_unsigned()
}

/// A stream socket that is being connected to the host's `port`; it does not block and is writable once connected.
///
/// # Errors
/// No vsock in this kernel, or no device.
pub fn dial(port: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
    // The kernel's own patience of two seconds is short on a host that has much else to do. Seconds and microseconds.
    let patience: [i64; 2] = [120, 0];
    let (level, option) = (
        AddressFamily::VSOCK.as_raw().into(),
        SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD as usize,
    );
    let at = (&raw const patience).addr();
    // SAFETY: the option is read from the address during the call, of the size given.
    unsafe {
        call(
            __NR_setsockopt,
            [
                register(socket.as_raw_fd()),
                level,
                option,
                at,
                size_of_val(&patience),
            ],
        )
    }?;
    // SAFETY: all zeroes is a valid sockaddr_vm.
    let mut address: sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = AddressFamily::VSOCK.as_raw();
    address.svm_cid = VMADDR_CID_HOST;
    address.svm_port = port;
    let at = (&raw const address).addr();
    // SAFETY: the address is valid for its size during the call and the socket is open.
    match unsafe {
        call(
            __NR_connect,
            [
                register(socket.as_raw_fd()),
                at,
                size_of_val(&address),
                0,
                0,
            ],
        )
    } {
        Ok(_) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Signals by number, as the kernel takes them: signal `n` is bit `n - 1`.
type SignalSet = u64;

/// Holds back all signals. Init has no handlers: it reads [`child_signals`].
pub fn block_signals() {
    set_signal_mask(SIG_BLOCK, SignalSet::MAX);
}

/// What a new program expects: nothing blocked. Init changes no disposition, so all are default.
pub fn unblock_signals() {
    set_signal_mask(SIG_SETMASK, 0);
}

fn set_signal_mask(how: u32, set: SignalSet) {
    let at = (&raw const set).addr();
    // SAFETY: the set is valid during the call, of the size given, and no old set is asked for. It cannot fail.
    let _ = unsafe {
        call(
            __NR_rt_sigprocmask,
            [how as usize, at, 0, size_of::<SignalSet>(), 0],
        )
    };
}

/// A descriptor that is readable when a child has changed. SIGCHLD must be blocked.
///
/// # Errors
/// Out of descriptors or memory.
pub fn child_signals() -> Result<OwnedFd, Errno> {
    let set: SignalSet = 1 << (SIGCHLD - 1);
    let at = (&raw const set).addr();
    let flags = (O_CLOEXEC | O_NONBLOCK) as usize;
    // SAFETY: the set is valid during the call and of the size given; -1 asks for a new descriptor.
    let fd = unsafe {
        call(
            __NR_signalfd4,
            [register(-1), at, size_of::<SignalSet>(), flags, 0],
        )
    }?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the call succeeded, so the descriptor is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The signal that nothing survives.
pub const SIGKILL: i32 = linux_raw_sys::general::SIGKILL.cast_signed();

/// Sends a signal by number; -1 means every process but init.
///
/// # Errors
/// No such process, or no such signal.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two numbers.
    unsafe { call(__NR_kill, [register(pid.0), register(signal), 0, 0, 0]) }.map(drop)
}

/// Limits a resource of this process and those it makes.
///
/// # Errors
/// No such resource, a soft limit above the hard one, or no right to raise it.
pub fn set_limit(limit: &Limit) -> Result<(), Errno> {
    let new = [limit.soft, limit.hard];
    let at = (&raw const new).addr();
    // SAFETY: the new limit is two numbers of 64 bits, valid during the call; the old one is not asked for. Process 0 is
    // this one.
    unsafe { call(__NR_prlimit64, [0, usize::from(limit.resource), at, 0, 0]) }.map(drop)
}

/// Has the kernel ask this program of seccomp(2), in a row of instructions, for each system call of this process and those it
/// makes, from now on.
///
/// # Errors
/// It is no such program, or the process may not (without "no new privileges" it needs `CAP_SYS_ADMIN`).
pub fn filter_calls(program: &[u8]) -> Result<(), Errno> {
    let (instructions, rest) = program.as_chunks::<8>();
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?;
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    // struct sock_fprog: the length, and where they are.
    let program = [usize::from(length), instructions.as_ptr().addr()];
    let (operation, at) = (SECCOMP_SET_MODE_FILTER, (&raw const program).addr());
    // SAFETY: the kernel reads as many instructions as there are, during the call.
    unsafe { call(__NR_seccomp, [operation, 0, at, 0, 0]) }.map(drop)
}

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, and whom it made.
    Parent(Pid),
}

/// Makes a copy of this process, in this control group (a directory of cgroup v2) if one is given.
///
/// # Errors
/// Out of processes or memory, or the group's limit is reached.
pub fn fork(group: Option<BorrowedFd<'_>>) -> Result<Fork, Errno> {
    // SAFETY: all zeroes is a valid clone_args: no flags, no addresses.
    let mut arguments: clone_args = unsafe { mem::zeroed() };
    arguments.exit_signal = SIGCHLD.into();
    if let Some(group) = group {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(group.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    let at = (&raw const arguments).addr();
    // SAFETY: the arguments are valid during the call and of the size given. Without a flag that shares anything this is
    // fork: the child has memory of its own, and as init has one thread, everything in it is consistent. (A copy of a
    // process with more must keep to system calls; nobody makes one.)
    match unsafe { call(__NR_clone3, [at, size_of::<clone_args>(), 0, 0, 0]) }? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid(i32::try_from(pid).unwrap_or(i32::MAX)))),
    }
}

/// Closes descriptors, both bounds included. Nobody may use one of them afterwards: this is for a process that has just
/// been made and is about to do one thing with others.
pub fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: the call takes three numbers; who calls it owns the process, and drops nothing that it closed.
        let _ = unsafe { call(__NR_close_range, [register(first), register(last), 0, 0, 0]) };
    }
}

/// Makes the control group that this process is in the root of what it and its children see of control groups.
///
/// # Errors
/// A kernel without that namespace.
pub fn enter_group() -> Result<(), Errno> {
    // SAFETY: unshare takes a number, and this namespace has nothing to do with memory.
    unsafe { call(__NR_unshare, [CLONE_NEWCGROUP as usize, 0, 0, 0, 0]) }.map(drop)
}

/// A list of strings as execve takes it.
#[derive(Debug)]
pub struct StringList {
    pointers: Vec<*const c_char>,
    /// What the pointers point to; never changed after they were taken.
    _strings: Vec<CString>,
}

impl StringList {
    /// Keeps the strings and their addresses.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }
}

/// Becomes another program. Returns only when that fails.
#[must_use]
pub fn exec(program: &CStr, arguments: &StringList, environment: &StringList) -> Errno {
    let program = program.as_ptr().expose_provenance();
    let arguments = arguments.pointers.as_ptr().expose_provenance();
    let environment = environment.pointers.as_ptr().expose_provenance();
    // SAFETY: the program is a C string, both lists end with a null pointer, and all other pointers are to C strings that
    // the lists own.
    match unsafe { call(__NR_execve, [program, arguments, environment, 0, 0]) } {
        Ok(_) => Errno::INVAL,
        Err(errno) => errno,
    }
}

/// Ends this process without running anything on the way out.
pub fn leave(code: i32) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        let _ = unsafe { call(__NR_exit_group, [register(code), 0, 0, 0, 0]) };
    }
}

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` of random(4).
const ADD_ENTROPY: usize = 0x4008_5203;
const RESEED: usize = 0x5207;

/// Mixes secret bytes into the kernel's random numbers, all their bits counted.
///
/// # Errors
/// Not a random device, or too many bytes.
pub fn add_entropy(random: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let size = u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
    let mut pool = [(size * 8).to_le_bytes(), size.to_le_bytes()].concat();
    pool.extend_from_slice(bytes);
    let at = pool.as_ptr().expose_provenance();
    // SAFETY: the request reads the two numbers and as many bytes as the second says, all of which are there.
    unsafe {
        call(
            __NR_ioctl,
            [register(random.as_raw_fd()), ADD_ENTROPY, at, 0, 0],
        )
    }
    .map(drop)
}

/// Makes all random numbers from now on follow from what was added.
///
/// # Errors
/// Not a random device, or one that never had any entropy.
pub fn reseed(random: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the request takes no argument.
    unsafe { call(__NR_ioctl, [register(random.as_raw_fd()), RESEED, 0, 0, 0]) }.map(drop)
}

/// Brings the loopback interface up; the kernel then gives it 127.0.0.1/8 and ::1.
///
/// # Errors
/// No IPv4 in this kernel.
pub fn loopback_up() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: ifreq = unsafe { mem::zeroed() };
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifrn.ifrn_name = name;
    let up = net_device_flags::IFF_UP as u32;
    request.ifr_ifru.ifru_flags = i16::try_from(up).unwrap_or_default();
    let at = (&raw const request).addr();
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is valid during the call.
    unsafe {
        call(
            __NR_ioctl,
            [
                register(socket.as_raw_fd()),
                SIOCSIFFLAGS as usize,
                at,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

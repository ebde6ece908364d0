//! The only unsafe code of this package: what rustix does not offer. Knows no policy: each function is one thing asked
//! of the system.

#![expect(unsafe_code, reason = "system interfaces that have no safe wrapper")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A process of the guest, as the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(pub i32);

/// The time stamp counter.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and nothing sets CR4.TSD before this runs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

/// A stream socket that is being connected to the host's `port`; it does not block and is writable once connected.
///
/// # Errors
/// No vsock in this kernel, or no device.
pub fn dial(port: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
    // SAFETY: all zeroes is a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = AddressFamily::VSOCK.as_raw();
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = port;
    let size = libc::socklen_t::try_from(mem::size_of_val(&address)).unwrap_or_default();
    // SAFETY: the address is valid for `size` bytes during the call and the socket is open.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) }) {
        Ok(_) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Holds back all signals of this thread. Init has no handlers: it reads [`child_signals`].
pub fn block_signals() {
    set_signal_mask(libc::SIG_BLOCK);
}

/// The mask and dispositions a new program expects: nothing blocked. Init changes no disposition, so all are default.
pub fn unblock_signals() {
    set_signal_mask(libc::SIG_UNBLOCK);
}

fn set_signal_mask(how: c_int) {
    let mut all = mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the whole set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was initialised above; no old set is asked for. It cannot fail with a valid `how`.
    unsafe { libc::sigprocmask(how, all.as_ptr(), ptr::null_mut()) };
}

/// A descriptor that is readable when a child has changed. SIGCHLD must be blocked.
///
/// # Errors
/// Out of descriptors or memory.
pub fn child_signals() -> Result<OwnedFd, Errno> {
    let mut set = mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised above and SIGCHLD is a valid signal.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: the set was initialised above; -1 asks for a new descriptor.
    let fd =
        check(unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the call succeeded, so the descriptor is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal by number; -1 means every process but init.
///
/// # Errors
/// No such process, or no such signal.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two numbers.
    check(unsafe { libc::kill(pid.0, signal) }).map(drop)
}

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, and whom it made.
    Parent(Pid),
}

/// Makes a copy of this process. Safe to call only because init has one thread; where there are more (tests), the child
/// must keep to system calls until it executes a program or exits.
///
/// # Errors
/// Out of processes or memory.
pub fn fork() -> Result<Fork, Errno> {
    // SAFETY: init is single-threaded, so the child's copy of every lock and heap is consistent.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid(pid))),
    }
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
    // SAFETY: the program is a C string, both lists end with a null pointer, and all other pointers are to C strings that
    // the lists own.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    };
    last_error()
}

/// Ends this process without running anything on the way out.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Brings the loopback interface up; the kernel then gives it 127.0.0.1/8 and ::1.
///
/// # Errors
/// No IPv4 in this kernel.
pub fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is valid during the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}

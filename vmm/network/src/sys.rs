//! The crate's only unsafe: two things of TCP sockets and one of tap devices that rustix does not offer. Refuses to know why.
#![expect(unsafe_code, reason = "no safe wrapper exists")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes looking at a socket's data go on where the last look ended, from `offset` on. Older kernels cannot.
pub(crate) fn peek_from(socket: BorrowedFd<'_>, offset: i32) -> bool {
    let length = libc::socklen_t::try_from(size_of_val(&offset)).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of `offset`, which lives until the call returns.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            length,
        )
    };
    set == 0
}

/// Takes `length` bytes of a TCP socket's data without looking at them.
pub(crate) fn discard(socket: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC a TCP socket writes to no buffer, so none is given.
    let taken = unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), length, flags) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// What a tap device may leave to whoever reads from it (`TUNSETOFFLOAD`): checksums, and the cutting of TCP.
pub(crate) fn set_offload(device: BorrowedFd<'_>, checksum: bool, segments: bool) {
    let flags = match (checksum, segments) {
        (false, _) => 0,
        (true, false) => libc::TUN_F_CSUM,
        (true, true) => libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6,
    };
    // SAFETY: the request takes a number. A device that does not know it leaves nothing to anybody.
    unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD as _, flags) };
}

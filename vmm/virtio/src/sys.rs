//! The crate's only unsafe: system calls whose buffers are guest memory. Refuses to know what is transferred.
#![expect(unsafe_code, reason = "buffers in guest memory have no safe type")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

/// Most segments one system call takes (`IOV_MAX`); a transfer of more comes out short.
const SEGMENTS: usize = 1024;

/// Bytes of a page of the host.
const PAGE: usize = 4096;

/// `preadv(2)`
pub(crate) fn read_at<'m>(
    file: BorrowedFd<'_>,
    offset: u64,
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> io::Result<usize> {
    let offset = offset_of(offset)?;
    let (vectors, count) = vectors(segments);
    // SAFETY: each vector is a slice of mapped guest memory that outlives this call ('m), as `vectors` made it; that
    // memory is shared with the guest, so no reference to it exists that the kernel's writes could contradict.
    retry(|| unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
}

/// `pwritev(2)`
pub(crate) fn write_at<'m>(
    file: BorrowedFd<'_>,
    offset: u64,
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> io::Result<usize> {
    let offset = offset_of(offset)?;
    let (vectors, count) = vectors(segments);
    // SAFETY: each vector is a slice of mapped guest memory that outlives this call ('m), as `vectors` made it.
    retry(|| unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
}

/// `pwritev2(2)` at the file's end.
pub(crate) fn append<'m>(
    file: BorrowedFd<'_>,
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> io::Result<usize> {
    let (vectors, count) = vectors(segments);
    let append = libc::RWF_APPEND;
    // SAFETY: as in `write_at`.
    retry(|| unsafe { libc::pwritev2(file.as_raw_fd(), vectors.as_ptr(), count, 0, append) })
}

/// `recvmsg(2)` without waiting.
pub(crate) fn receive<'m>(
    socket: BorrowedFd<'_>,
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> io::Result<usize> {
    let (mut vectors, _) = vectors(segments);
    let mut message = message(&mut vectors);
    // SAFETY: `message` names only `vectors`, which live until the end of this function and describe mapped guest memory
    // that outlives it ('m); no reference to that memory exists.
    retry(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })
}

/// `recvmsg(2)` without waiting and without taking what is received: first into `known`, then into the segments.
pub(crate) fn peek<'m>(
    socket: BorrowedFd<'_>,
    known: &mut [u8],
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> io::Result<usize> {
    let (mut vectors, _) = vectors(segments);
    if !known.is_empty() {
        let front = libc::iovec {
            iov_base: known.as_mut_ptr().cast(),
            iov_len: known.len(),
        };
        vectors.truncate(SEGMENTS.saturating_sub(1));
        vectors.insert(0, front);
    }
    let mut message = message(&mut vectors);
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    // SAFETY: as in `receive`; `known` is borrowed for this whole function.
    retry(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })
}

/// `sendmsg(2)` without waiting and without SIGPIPE.
pub(crate) fn send<'m>(
    socket: BorrowedFd<'_>,
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> io::Result<usize> {
    let (mut vectors, _) = vectors(segments);
    let message = message(&mut vectors);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as in `receive`.
    retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// `madvise(MADV_DONTNEED)` on the whole pages of a slice.
pub(crate) fn discard(slice: &VolatileSlice<'_>) {
    let start = slice.ptr_guard_mut().as_ptr();
    let skip = start.align_offset(PAGE);
    let length = slice.len().saturating_sub(skip) & !(PAGE.wrapping_sub(1));
    if length == 0 {
        return;
    }
    let page = start.wrapping_add(skip);
    // SAFETY: the pages lie within the slice, so they are mapped guest memory. Its content may change at any time, as
    // the guest shares it, so nobody relies on it, and no reference to it exists.
    // What cannot be given back stays, which harms nobody.
    let _ = unsafe { libc::madvise(page.cast(), length, libc::MADV_DONTNEED) };
}

/// What adjoins in memory is one vector: a guest's buffer of many pages is often a single piece.
fn vectors<'m>(
    segments: impl Iterator<Item = VolatileSlice<'m>>,
) -> (Vec<libc::iovec>, libc::c_int) {
    let mut vectors: Vec<libc::iovec> = Vec::new();
    for slice in segments {
        // A plain mapping needs no guard to stay mapped: its owner is borrowed for 'm.
        let start = slice.ptr_guard_mut().as_ptr();
        let full = vectors.len() == SEGMENTS;
        match vectors.last_mut() {
            Some(last) if last.iov_base.addr().checked_add(last.iov_len) == Some(start.addr()) => {
                last.iov_len = last.iov_len.saturating_add(slice.len());
            }
            _ if full => break,
            _ => vectors.push(libc::iovec {
                iov_base: start.cast(),
                iov_len: slice.len(),
            }),
        }
    }
    let count = libc::c_int::try_from(vectors.len()).unwrap_or(0);
    (vectors, count)
}

fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all fields of msghdr are integers or pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}

fn offset_of(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Repeats a call for as long as signals interrupt it.
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

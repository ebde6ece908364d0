//! Names and words for system errors. A static program has no business loading message catalogues for this.

use core::fmt;

use rustix::io::Errno;

/// An error of the system, shown as words and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemError(pub Errno);

impl From<Errno> for SystemError {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl core::error::Error for SystemError {}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WORDS.iter().find(|(errno, _, _)| *errno == self.0) {
            Some((_, name, words)) => write!(f, "{words} ({name})"),
            None => write!(f, "error {}", self.0.raw_os_error()),
        }
    }
}

/// What mounts, sockets, exec and plain file work can answer.
const WORDS: [(Errno, &str, &str); 42] = [
    (Errno::PERM, "EPERM", "operation not permitted"),
    (Errno::NOENT, "ENOENT", "no such file or directory"),
    (Errno::INTR, "EINTR", "interrupted system call"),
    (Errno::IO, "EIO", "input/output error"),
    (Errno::NXIO, "ENXIO", "no such device or address"),
    (Errno::TOOBIG, "E2BIG", "argument list too long"),
    (Errno::NOEXEC, "ENOEXEC", "exec format error"),
    (Errno::BADF, "EBADF", "bad file descriptor"),
    (Errno::AGAIN, "EAGAIN", "resource temporarily unavailable"),
    (Errno::NOMEM, "ENOMEM", "out of memory"),
    (Errno::ACCESS, "EACCES", "permission denied"),
    (Errno::FAULT, "EFAULT", "bad address"),
    (Errno::NOTBLK, "ENOTBLK", "not a block device"),
    (Errno::BUSY, "EBUSY", "device or resource busy"),
    (Errno::EXIST, "EEXIST", "file exists"),
    (Errno::XDEV, "EXDEV", "crosses devices"),
    (Errno::NODEV, "ENODEV", "no such device"),
    (Errno::NOTDIR, "ENOTDIR", "not a directory"),
    (Errno::ISDIR, "EISDIR", "is a directory"),
    (Errno::INVAL, "EINVAL", "invalid argument"),
    (Errno::NFILE, "ENFILE", "too many open files in the system"),
    (Errno::MFILE, "EMFILE", "too many open files"),
    (Errno::NOTTY, "ENOTTY", "not that kind of device"),
    (Errno::TXTBSY, "ETXTBSY", "file is open for writing"),
    (Errno::FBIG, "EFBIG", "file too large"),
    (Errno::NOSPC, "ENOSPC", "no space left"),
    (Errno::SPIPE, "ESPIPE", "cannot seek"),
    (Errno::ROFS, "EROFS", "read-only file system"),
    (Errno::MLINK, "EMLINK", "too many links"),
    (Errno::PIPE, "EPIPE", "broken pipe"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG", "file name too long"),
    (Errno::NOSYS, "ENOSYS", "not in this kernel"),
    (Errno::NOTEMPTY, "ENOTEMPTY", "directory not empty"),
    (Errno::LOOP, "ELOOP", "too many symbolic links"),
    (Errno::OVERFLOW, "EOVERFLOW", "value too large"),
    (Errno::UCLEAN, "EUCLEAN", "file system needs cleaning"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP", "operation not supported"),
    (
        Errno::AFNOSUPPORT,
        "EAFNOSUPPORT",
        "address family not supported",
    ),
    (Errno::CONNRESET, "ECONNRESET", "connection reset"),
    (Errno::NOTCONN, "ENOTCONN", "not connected"),
    (Errno::TIMEDOUT, "ETIMEDOUT", "timed out"),
    (Errno::CONNREFUSED, "ECONNREFUSED", "connection refused"),
];

#[cfg(test)]
mod tests;

//! A new volume gets what the image has in its place: files, directories, links, with owners, modes and times. Knows no mount.

use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// Bytes copied at a time.
const PIECE: usize = 128 << 10;
/// No image has directories in directories as deep.
const DEEPEST: u32 = 256;

/// Copies what is in the directory `from` into the directory `to`, unless there is something in that already.
///
/// # Errors
/// Something cannot be read or written. What was copied stays.
pub(super) fn fill(to: &[u8], from: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &[u8]| rustix::fs::open(path, flags, Mode::empty());
    let (to, from) = (open(to)?, open(from)?);
    if !names(&to)?.is_empty() {
        return Ok(());
    }
    copy_directory(&from, &to, &mut vec![0; PIECE], DEEPEST)
}

fn copy_directory(
    from: &OwnedFd,
    to: &OwnedFd,
    buffer: &mut [u8],
    depth: u32,
) -> Result<(), Errno> {
    let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    for name in names(from)? {
        let name = CStr::from_bytes_with_nul(&name).unwrap_or_default();
        let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = |at: &OwnedFd| rustix::fs::openat(at, name, flags, Mode::empty());
                copy_directory(&open(from)?, &open(to)?, buffer, depth)?;
            }
            FileType::RegularFile => copy_file(from.as_fd(), to.as_fd(), name, mode, buffer)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&*target, to, name)?;
            }
            kind @ FileType::Fifo => rustix::fs::mknodat(to, name, kind, mode, 0)?,
            // Sockets and devices mean nothing in a volume.
            _ => continue,
        }
        resemble(to.as_fd(), name, &status, mode)?;
    }
    let status = rustix::fs::fstat(from)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    resemble(to.as_fd(), c".", &status, mode)
}

/// Owner, mode and time. Whose files are all one user's on the host cannot give them away.
fn resemble(at: BorrowedFd<'_>, name: &CStr, status: &Stat, mode: Mode) -> Result<(), Errno> {
    let owner = Some(Uid::from_raw(status.st_uid));
    let group = Some(Gid::from_raw(status.st_gid));
    match rustix::fs::chownat(at, name, owner, group, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
    }
    let modified = Timespec {
        tv_sec: status.st_mtime,
        tv_nsec: i64::try_from(status.st_mtime_nsec).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: modified,
        last_modification: modified,
    };
    rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    mode: Mode,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = rustix::fs::openat(to, name, flags, mode)?;
    loop {
        let count = rustix::io::read(&from, &mut *buffer)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = rustix::io::write(&to, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

/// All names but `.` and `..`, each with the zero at its end.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_bytes_with_nul().to_vec());
        }
    }
    Ok(names)
}

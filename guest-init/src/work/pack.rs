//! Files into a stream of entries. What changes meanwhile comes out as it was at one of its moments, whole in itself.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use protocol::{Bytes, Entry, EntryKind, Item};
use rustix::fd::AsRawFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::{CHUNK, Out, failed, join, names};

/// What the kernel shows and nobody means when a directory above it is copied.
const KERNELS: [&[u8]; 3] = [b"/dev", b"/proc", b"/sys"];

/// A walk under way.
struct Walk<'a, 'b> {
    out: &'a mut Out<'b>,
    whole: bool,
    /// Files with several names, and the first of those here.
    linked: BTreeMap<(u32, u32, u64), Vec<u8>>,
}

pub(super) fn pack(out: &mut Out, path: &[u8], follow: bool, whole: bool) -> Result<(), String> {
    let mut walk = Walk {
        out,
        whole,
        linked: BTreeMap::new(),
    };
    let path = match follow {
        true => resolved(path)?,
        false => path.to_vec(),
    };
    walk.visit(&path, b"", true)
}

/// Where a path leads once all links are followed, as the kernel says.
fn resolved(path: &[u8]) -> Result<Vec<u8>, String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let read = rustix::fs::open(path, flags, Mode::empty()).and_then(|file| {
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::readlink(name.as_bytes(), Vec::new())
    });
    let read = read.map_err(|errno| failed("find", path, errno))?;
    Ok(read.into_bytes())
}

impl Walk<'_, '_> {
    fn visit(&mut self, path: &[u8], below: &[u8], first: bool) -> Result<(), String> {
        let status = match status(path) {
            // It went while its directory was read.
            Err(Errno::NOENT) if !first => return Ok(()),
            status => status.map_err(|errno| failed("find", path, errno))?,
        };
        let is_mount = status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        let Some(kind) = self.kind(&status, path, below)? else {
            return Ok(());
        };
        let mut entry = Entry {
            path: below.into(),
            mode: status.stx_mode & 0o7777,
            uid: status.stx_uid,
            gid: status.stx_gid,
            seconds: status.stx_mtime.tv_sec,
            nanoseconds: status.stx_mtime.tv_nsec,
            attributes: attributes(path).map_err(|errno| failed("read", path, errno))?,
            kind,
        };
        match entry.kind {
            EntryKind::File { .. } => self.file(path, entry, first),
            EntryKind::Directory => {
                let leaves_out = match self.whole {
                    true => is_mount && !below.is_empty(),
                    false => is_mount && KERNELS.contains(&path),
                };
                entry.attributes.retain(|_| !leaves_out);
                self.out.item(&Item::Entry(entry))?;
                if leaves_out {
                    return Ok(());
                }
                for name in list(path)? {
                    self.visit(&join(path, &name), &join(below, &name), false)?;
                }
                Ok(())
            }
            _ => self.out.item(&Item::Entry(entry)),
        }
    }

    /// What it is; nothing for a socket, which no archive has.
    fn kind(
        &mut self,
        status: &Statx,
        path: &[u8],
        below: &[u8],
    ) -> Result<Option<EntryKind>, String> {
        let device = (status.stx_rdev_major, status.stx_rdev_minor);
        let kind = FileType::from_raw_mode(status.stx_mode.into());
        if status.stx_nlink > 1 && kind != FileType::Directory {
            let number = (status.stx_dev_major, status.stx_dev_minor, status.stx_ino);
            if let Some(first) = self.linked.get(&number) {
                return Ok(Some(EntryKind::HardLink(first.as_slice().into())));
            }
            self.linked.insert(number, below.to_vec());
        }
        Ok(Some(match kind {
            FileType::RegularFile => EntryKind::File {
                size: status.stx_size,
            },
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlink(path, Vec::new())
                    .map_err(|errno| failed("read", path, errno))?;
                EntryKind::Symlink(target.into_bytes().into())
            }
            FileType::CharacterDevice => EntryKind::Character(device.0, device.1),
            FileType::BlockDevice => EntryKind::Block(device.0, device.1),
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(None),
        }))
    }

    /// So many bytes as were announced, zeros for those that are no more.
    fn file(&mut self, path: &[u8], mut entry: Entry, first: bool) -> Result<(), String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) if !first => return Ok(()),
            file => file.map_err(|errno| failed("open", path, errno))?,
        };
        let now = rustix::fs::fstat(&file).map_err(|errno| failed("read", path, errno))?;
        let mut left = u64::try_from(now.st_size).unwrap_or_default();
        entry.kind = EntryKind::File { size: left };
        self.out.item(&Item::Entry(entry))?;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
            let room = buffer.get_mut(..most).unwrap_or_default();
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut *room))
                .map_err(|errno| failed("read", path, errno))?;
            if read == 0 {
                room.fill(0);
            }
            let read = if read == 0 { most } else { read };
            self.out.bytes(buffer.get(..read).unwrap_or_default())?;
            left -= read as u64;
        }
        Ok(())
    }
}

/// What a path is, links not followed.
pub(super) fn status(path: &[u8]) -> Result<Statx, Errno> {
    rustix::fs::statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )
}

fn list(path: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .and_then(|directory| names(&directory))
        .map_err(|errno| failed("read", path, errno))
}

/// Extended attributes, but for the kernel's own about its layers.
fn attributes(path: &[u8]) -> Result<Vec<(Bytes, Bytes)>, Errno> {
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        length => length?,
    };
    let names = list.get(..length).unwrap_or_default();
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        match rustix::fs::lgetxattr(path, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                attributes.push((name.into(), value.into()));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(attributes)
}

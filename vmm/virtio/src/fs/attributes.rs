//! What files are: mode, owner, times, length, extended attributes, and the file system they are in. Refuses to know directories.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
    chmodat, chownat, fstat, fstatfs, ftruncate, getxattr, listxattr, removexattr, setxattr,
    utimensat,
};
use rustix::io::Errno;

use super::Owners;
use super::abi::{Fields, Header};
use super::entries::{BELIEVED, group, user};
use super::server::{Server, number};

/// What of `fuse_setattr_in` counts.
mod valid {
    pub(super) const MODE: u32 = 1;
    pub(super) const UID: u32 = 1 << 1;
    pub(super) const GID: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ATIME: u32 = 1 << 4;
    pub(super) const MTIME: u32 = 1 << 5;
    pub(super) const HANDLE: u32 = 1 << 6;
    pub(super) const ATIME_NOW: u32 = 1 << 7;
    pub(super) const MTIME_NOW: u32 = 1 << 8;
    pub(super) const KILL_SUIDGID: u32 = 1 << 11;
}

/// Setuid and setgid.
pub(super) const GAINING: u32 = 0o6000;
/// Longest value of an extended attribute, and longest list of their names.
const LONGEST_VALUE: usize = 64 << 10;
/// A value that is asked for often (`security.capability`, before the first write to a file) is not longer.
const SHORT_VALUE: usize = 256;
/// Extended attributes that pass; others would mean something to the host.
const PASSING: &[u8] = b"user.";
/// These do where the guest's users are the host's: they are worth no more than an owner and a setuid bit, which the guest may set.
const PASSING_AMONG_SAME: [&[u8]; 3] = [
    b"security.capability",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];

impl Server {
    pub(super) fn attributes(&mut self, header: Header, _: &mut Fields<'_>) -> Result<(), Errno> {
        if Self::is_root(header) {
            let root = self.root()?;
            self.out().u64(BELIEVED).u64(0).attributes(&root);
            return Ok(());
        }
        let stat = fstat(&*self.descriptor(header.node)?)?;
        self.answer_attributes(&stat);
        Ok(())
    }

    pub(super) fn set_attributes(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        self.nodes.may_change(header.node)?;
        let (valid, _) = (fields.u32()?, fields.u32()?);
        let (handle, size, _lock) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (atime, mtime, _ctime) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (atime_part, mtime_part, _) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (mode, _, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let set = |bit| valid & bit != 0;
        let descriptor = self.descriptor(header.node)?;
        let kind = self.nodes.get(header.node)?.kind;
        if set(valid::SIZE) {
            let file = match set(valid::HANDLE) {
                true => Arc::clone(&self.handles.file(handle, header.node)?.file),
                false => Arc::new(self.file_of(header.node, OFlags::WRONLY.bits())?),
            };
            ftruncate(&file, size)?;
            if set(valid::KILL_SUIDGID) {
                self.drop_gaining(&descriptor)?;
            }
        }
        // First the owner: a change of it takes bits of the mode away.
        if set(valid::UID) || set(valid::GID) {
            let owner = set(valid::UID).then_some(uid);
            let group = set(valid::GID).then_some(gid);
            self.change_owner(&descriptor, owner, group)?;
        }
        if set(valid::MODE) {
            self.change_mode(&descriptor, kind, mode)?;
        }
        if set(valid::ATIME) || set(valid::MTIME) {
            let time = |set, now, seconds: u64, part: u32| Timespec {
                tv_sec: if set { seconds.cast_signed() } else { 0 },
                tv_nsec: match (set, now) {
                    (false, _) => UTIME_OMIT,
                    (true, true) => UTIME_NOW,
                    (true, false) => part.min(999_999_999).into(),
                },
            };
            let times = Timestamps {
                last_access: time(set(valid::ATIME), set(valid::ATIME_NOW), atime, atime_part),
                last_modification: time(
                    set(valid::MTIME),
                    set(valid::MTIME_NOW),
                    mtime,
                    mtime_part,
                ),
            };
            utimensat(&descriptor, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        let stat = fstat(&descriptor)?;
        self.answer_attributes(&stat);
        Ok(())
    }

    fn answer_attributes(&mut self, stat: &Stat) {
        let seen = self.seen_by_guest(stat);
        self.out().u64(BELIEVED).u64(0).attributes(&seen);
    }

    /// Where all files are the user's own, the guest's root is their owner and nobody else can be.
    fn change_owner(
        &self,
        descriptor: &OwnedFd,
        owner: Option<u32>,
        to: Option<u32>,
    ) -> Result<(), Errno> {
        if owner == Some(u32::MAX) || to == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        match self.owners {
            Owners::Same => {
                let (owner, to) = (owner.map(user), to.map(group));
                chownat(descriptor, c"", owner, to, AtFlags::EMPTY_PATH)
            }
            Owners::Own => {
                if owner.is_some_and(|owner| owner != 0) || to.is_some_and(|to| to != 0) {
                    return Err(Errno::PERM);
                }
                let (owner, to) = (owner.map(|_| self.uid), to.map(|_| self.gid));
                chownat(descriptor, c"", owner, to, AtFlags::EMPTY_PATH)
            }
        }
    }

    fn change_mode(&self, descriptor: &OwnedFd, kind: FileType, mode: u32) -> Result<(), Errno> {
        if kind == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        let directory = &*self.own.directory;
        chmodat(directory, number(descriptor), mode, AtFlags::empty())
    }

    /// Takes setuid and setgid bits away, as the host's kernel does where the writer may not keep them.
    pub(super) fn drop_gaining(&self, descriptor: &OwnedFd) -> Result<(), Errno> {
        let stat = fstat(descriptor)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // A setgid bit without the right to execute is no right of a group.
        let setgid = if stat.st_mode & 0o010 == 0 { 0 } else { 0o2000 };
        let gone = stat.st_mode & GAINING & (0o4000 | setgid);
        if gone == 0 || kind != FileType::RegularFile {
            return Ok(());
        }
        self.change_mode(descriptor, kind, stat.st_mode & !gone)
    }

    pub(super) fn file_system(&mut self, header: Header) -> Result<(), Errno> {
        if Self::is_root(header) {
            self.out().bytes(&[0; 80]);
            return Ok(());
        }
        let of = fstatfs(&*self.descriptor(header.node)?)?;
        let small = |value: i64| u32::try_from(value).unwrap_or(0);
        let (block, name, fragment) = (small(of.f_bsize), small(of.f_namelen), small(of.f_frsize));
        self.out()
            .u64(of.f_blocks)
            .u64(of.f_bfree)
            .u64(of.f_bavail)
            .u64(of.f_files)
            .u64(of.f_ffree)
            .u32(block)
            .u32(name)
            .u32(fragment)
            .bytes(&[0; 28]);
        Ok(())
    }

    /// A path to a file or directory that can have extended attributes.
    fn attributed(&mut self, header: Header) -> Result<(String, Arc<OwnedFd>), Errno> {
        let kind = self.nodes.get(header.node)?.kind;
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(Errno::OPNOTSUPP);
        }
        let descriptor = self.descriptor(header.node)?;
        Ok((self.path(&descriptor), descriptor))
    }

    pub(super) fn set_attribute(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let (size, flags) = (fields.u32()?, fields.u32()?);
        let name = fields.text()?;
        let size = usize::try_from(size).map_err(|_| Errno::TOOBIG)?;
        let value = fields.0.get(..size).ok_or(Errno::INVAL)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.nodes.may_change(header.node)?;
        self.passes(name.to_bytes())?;
        let (path, _open) = self.attributed(header)?;
        setxattr(path, name, value, flags)
    }

    pub(super) fn attribute(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
        room: usize,
    ) -> Result<(), Errno> {
        let (size, _) = (fields.u32()?, fields.u32()?);
        let name = fields.text()?;
        self.passes(name.to_bytes())?;
        if Self::is_root(header) {
            return Err(Errno::NODATA);
        }
        let (path, _open) = self.attributed(header)?;
        let most = match size {
            0 => SHORT_VALUE,
            size => usize::try_from(size).unwrap_or(0).min(LONGEST_VALUE),
        };
        let mut value = vec![0; most];
        let length = match getxattr(&path, name, &mut value[..]) {
            Err(Errno::RANGE) if size == 0 => {
                value.resize(LONGEST_VALUE, 0);
                getxattr(&path, name, &mut value[..])?
            }
            other => other?,
        };
        self.answer_value(value.get(..length).unwrap_or_default(), size, room)
    }

    pub(super) fn list_attributes(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
        room: usize,
    ) -> Result<(), Errno> {
        let (size, _) = (fields.u32()?, fields.u32()?);
        if Self::is_root(header) {
            return self.answer_value(&[], size, room);
        }
        let (path, _open) = self.attributed(header)?;
        let mut list = vec![0; LONGEST_VALUE];
        let length = listxattr(path, &mut list[..])?;
        let all = list.get(..length).unwrap_or_default();
        let mut passing = Vec::new();
        for name in all.split_inclusive(|byte| *byte == 0) {
            let bare = name.strip_suffix(&[0]).unwrap_or(name);
            if self.passes(bare).is_ok() {
                passing.extend_from_slice(name);
            }
        }
        self.answer_value(&passing, size, room)
    }

    pub(super) fn remove_attribute(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let name = fields.text()?;
        self.nodes.may_change(header.node)?;
        self.passes(name.to_bytes())?;
        let (path, _open) = self.attributed(header)?;
        removexattr(path, name)
    }

    fn passes(&self, name: &[u8]) -> Result<(), Errno> {
        let plain = name.starts_with(PASSING) && name.len() <= 255;
        let same = self.owners == Owners::Same && PASSING_AMONG_SAME.contains(&name);
        match plain || same {
            true => Ok(()),
            false => Err(Errno::OPNOTSUPP),
        }
    }

    /// The value, or its length to whoever leaves no room for it.
    fn answer_value(&mut self, value: &[u8], size: u32, room: usize) -> Result<(), Errno> {
        let length = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
        if size == 0 {
            self.out().u32(length).u32(0);
            return Ok(());
        }
        if length > size || value.len() > room {
            return Err(Errno::RANGE);
        }
        self.out().bytes(value);
        Ok(())
    }
}

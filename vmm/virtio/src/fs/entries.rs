//! Operations on the entries of a directory. Refuses to know what is in files.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, chownat, fstat, linkat, mkdirat, mknodat,
    openat2, readlinkat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Owners;
use super::abi::{Attributes, Fields, Header, ROOT};
use super::handles::Handle;
use super::nodes::{Key, STAY, again};
use super::server::{Server, number};

/// Seconds for which the guest believes what it was told, without asking again.
pub(super) const BELIEVED: u64 = 1;

impl Server {
    pub(super) fn lookup(&mut self, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let name = fields.name()?;
        self.tell_of(header.node, name)
    }

    pub(super) fn read_link(&mut self, header: Header) -> Result<(), Errno> {
        let descriptor = self.descriptor(header.node)?;
        let target = readlinkat(&descriptor, c"", Vec::new())?;
        self.out().bytes(target.to_bytes());
        Ok(())
    }

    pub(super) fn symlink(&mut self, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (name, target) = (fields.name()?, fields.text()?);
        let directory = self.nodes.changeable(header.node)?;
        symlinkat(target, &directory, name)?;
        self.tell_of_new(header, name)
    }

    pub(super) fn make_node(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let (mode, _device, umask, _) =
            (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let name = fields.name()?;
        let kind = FileType::from_raw_mode(mode);
        match kind {
            FileType::RegularFile | FileType::Fifo | FileType::Socket => {}
            // A device node would be the host's device.
            _ => return Err(Errno::PERM),
        }
        let directory = self.nodes.changeable(header.node)?;
        self.mask(umask);
        mknodat(&directory, name, kind, mode_of(mode), 0)?;
        self.tell_of_new(header, name)
    }

    pub(super) fn make_directory(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let (mode, umask) = (fields.u32()?, fields.u32()?);
        let name = fields.name()?;
        let directory = self.nodes.changeable(header.node)?;
        self.mask(umask);
        mkdirat(&directory, name, mode_of(mode))?;
        self.tell_of_new(header, name)
    }

    pub(super) fn remove(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
        directory: bool,
    ) -> Result<(), Errno> {
        let name = fields.name()?;
        let parent = self.nodes.changeable(header.node)?;
        let flags = match directory {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        unlinkat(&parent, name, flags)
    }

    pub(super) fn rename(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
        has_flags: bool,
    ) -> Result<(), Errno> {
        let parent = fields.u64()?;
        let flags = match has_flags {
            true => (fields.u32()?, fields.u32()?).0,
            false => 0,
        };
        let flags = RenameFlags::from_bits(flags)
            .filter(|flags| !flags.contains(RenameFlags::WHITEOUT))
            .ok_or(Errno::INVAL)?;
        let (old, new) = (fields.name()?, fields.name()?);
        let from = self.nodes.changeable(header.node)?;
        let to = self.nodes.changeable(parent)?;
        let share = self.nodes.get(parent)?.key.share;
        if self.nodes.get(header.node)?.key.share != share {
            return Err(Errno::XDEV);
        }
        renameat_with(&from, old, &to, new, flags)?;
        let mut moved = |directory: &OwnedFd, parent, name: &CStr| {
            if let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                self.nodes.moved(Key::new(share, &stat), parent, name);
            }
        };
        moved(&to, parent, new);
        if flags.contains(RenameFlags::EXCHANGE) {
            moved(&from, header.node, old);
        }
        Ok(())
    }

    pub(super) fn link(&mut self, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (old, name) = (fields.u64()?, fields.name()?);
        let directory = self.nodes.changeable(header.node)?;
        self.nodes.may_change(old)?;
        if self.nodes.get(old)?.key.share != self.nodes.get(header.node)?.key.share {
            return Err(Errno::XDEV);
        }
        if self.nodes.get(old)?.kind == FileType::Directory {
            return Err(Errno::PERM);
        }
        let file = self.descriptor(old)?;
        let share = self.nodes.get(old)?.key.share;
        // The link followed is the one from the descriptor's number to the file itself, which may have no name at all.
        let (ours, follow) = (&*self.own.directory, AtFlags::SYMLINK_FOLLOW);
        linkat(ours, number(&file), &directory, name, follow)?;
        let stat = fstat(&file)?;
        let node = self.nodes.remember(header.node, name, file, &stat, share)?;
        self.answer_entry(node, &stat);
        Ok(())
    }

    pub(super) fn create(&mut self, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (flags, mode, umask, _) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let name = fields.name()?;
        let directory = self.nodes.changeable(header.node)?;
        self.handles.has_room()?;
        self.mask(umask);
        let made = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = super::data::flags_of(flags) | made;
        let made = again(|| openat2(&directory, name, how, mode_of(mode), STAY));
        let (file, (node, stat)) = match made {
            Ok(file) => {
                let entry = self.new_file(header, name, &file)?;
                (file, entry)
            }
            // Made by somebody else in between, which is as good.
            Err(Errno::EXIST) if flags & OFlags::EXCL.bits() == 0 => {
                let (descriptor, stat, share) = self.nodes.look(header.node, name)?;
                let parent = header.node;
                let node = self
                    .nodes
                    .remember(parent, name, descriptor, &stat, share)?;
                match self.file_of(node, flags) {
                    Ok(file) => (file, (node, stat)),
                    Err(errno) => {
                        self.nodes.forget(node, 1);
                        return Err(errno);
                    }
                }
            }
            Err(errno) => return Err(errno),
        };
        self.answer_open(Arc::new(file), node, &stat, flags)
    }

    /// `O_TMPFILE`: a file that has no name until it is linked.
    pub(super) fn make_nameless(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let (flags, mode, umask) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let directory = self.nodes.changeable(header.node)?;
        self.handles.has_room()?;
        self.mask(umask);
        let how = super::data::flags_of(flags) | OFlags::TMPFILE | OFlags::CLOEXEC;
        let how = how | OFlags::from_bits_retain(flags & OFlags::EXCL.bits());
        let file = again(|| openat2(&directory, c".", how, mode_of(mode), STAY))?;
        let (node, stat) = self.new_file(header, c"", &file)?;
        self.answer_open(Arc::new(file), node, &stat, flags)
    }

    /// The entry's attributes, then the open file.
    fn answer_open(
        &mut self,
        file: Arc<OwnedFd>,
        node: u64,
        stat: &Stat,
        flags: u32,
    ) -> Result<(), Errno> {
        self.answer_entry(node, stat);
        let handle = self.handles.add(Handle {
            file,
            node,
            flags,
            directory: false,
        });
        match handle {
            Ok(handle) => {
                self.out().u64(handle).u64(0);
                Ok(())
            }
            Err(errno) => {
                self.nodes.forget(node, 1);
                Err(errno)
            }
        }
    }

    /// Makes what this request has just created the guest user's, and tells of it.
    fn tell_of_new(&mut self, header: Header, name: &CStr) -> Result<(), Errno> {
        let (descriptor, stat, share) = self.nodes.look(header.node, name)?;
        let is_given = self.give_away(header, &descriptor, &stat)?;
        let stat = if is_given { fstat(&descriptor)? } else { stat };
        let node = self
            .nodes
            .remember(header.node, name, descriptor, &stat, share)?;
        self.answer_entry(node, &stat);
        Ok(())
    }

    /// The same of a file that was opened as it was made: whatever became of its name since.
    fn new_file(
        &mut self,
        header: Header,
        name: &CStr,
        file: &OwnedFd,
    ) -> Result<(u64, Stat), Errno> {
        let made = fstat(file)?;
        let is_given = self.give_away(header, file, &made)?;
        let is_it = |stat: &Stat| (stat.st_dev, stat.st_ino) == (made.st_dev, made.st_ino);
        // By its name is half as long a way as through /proc, but the name may be another file's by now, or there is none.
        let named = match name.is_empty() {
            true => None,
            false => self.nodes.look(header.node, name).ok(),
        };
        let (descriptor, stat) = match named.filter(|(_, stat, _)| is_it(stat)) {
            Some((descriptor, stat, _)) => (descriptor, stat),
            None => {
                let stat = if is_given { fstat(file)? } else { made };
                (Arc::new(self.reopen(file, OFlags::PATH)?), stat)
            }
        };
        let share = self.nodes.get(header.node)?.key.share;
        let node = self
            .nodes
            .remember(header.node, name, descriptor, &stat, share)?;
        Ok((node, stat))
    }

    /// Where users have the same numbers, what was made belongs to who made it; the group is the directory's where that says so.
    /// Says whether that changed anything.
    fn give_away(&self, header: Header, made: &OwnedFd, stat: &Stat) -> Result<bool, Errno> {
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        // Only what is this process's own was made by it, and not put in its place by somebody on the host.
        if self.owners != Owners::Same || stat.st_uid != uid {
            return Ok(false);
        }
        let to_group = (stat.st_gid == gid && header.gid != gid).then(|| group(header.gid));
        let owner = (header.uid != uid).then(|| user(header.uid));
        if owner.is_none() && to_group.is_none() {
            return Ok(false);
        }
        chownat(made, c"", owner, to_group, AtFlags::EMPTY_PATH)?;
        Ok(true)
    }

    /// What is made from now on has a mode without these bits, unless its directory says in a list what it has. The mask is the
    /// process's; nothing else in it makes files.
    fn mask(&mut self, umask: u32) {
        let umask = umask & 0o777;
        if self.umask != umask {
            rustix::process::umask(Mode::from_bits_truncate(umask));
            self.umask = umask;
        }
    }

    fn tell_of(&mut self, parent: u64, name: &CStr) -> Result<(), Errno> {
        let (descriptor, stat, share) = self.nodes.look(parent, name)?;
        let node = self
            .nodes
            .remember(parent, name, descriptor, &stat, share)?;
        self.answer_entry(node, &stat);
        Ok(())
    }

    /// What an entry that a directory has named is; nothing if it has gone since, or cannot be told.
    pub(super) fn answer_entry_of(&mut self, parent: u64, name: &CStr) {
        if self.tell_of(parent, name).is_err() {
            self.answer_no_entry();
        }
    }

    /// `fuse_entry_out` that says nothing.
    pub(super) fn answer_no_entry(&mut self) {
        self.out().bytes(&[0; 128]);
    }

    /// `fuse_entry_out`
    fn answer_entry(&mut self, node: u64, stat: &Stat) {
        let attributes = self.seen_by_guest(stat);
        self.out()
            .u64(node)
            .u64(0)
            .u64(BELIEVED)
            .u64(BELIEVED)
            .u64(0)
            .attributes(&attributes);
    }

    /// As the guest sees a file of the host: its owner, and a number that no other file of the device has.
    pub(super) fn seen_by_guest(&mut self, stat: &Stat) -> Attributes {
        let mut stat = *stat;
        if self.owners == Owners::Own {
            let translate = |number, own| if number == own { 0 } else { NOBODY };
            stat.st_uid = translate(stat.st_uid, self.uid.as_raw());
            stat.st_gid = translate(stat.st_gid, self.gid.as_raw());
        }
        Attributes {
            number: self.inode_number(stat.st_dev, stat.st_ino),
            stat,
        }
    }

    /// Inodes of different devices of the host have numbers apart from each other: one guest file system has them all.
    pub(super) fn inode_number(&mut self, device: u64, inode: u64) -> u64 {
        const MOST: usize = 255;
        let known = self.devices.iter().position(|known| *known == device);
        let index = known.unwrap_or_else(|| {
            if self.devices.len() < MOST {
                self.devices.push(device);
            }
            self.devices.len().saturating_sub(1)
        });
        inode ^ u64::try_from(index).unwrap_or(0).rotate_right(8)
    }

    /// The device's root: a directory of shares that cannot be listed or changed.
    pub(super) fn root(&self) -> Result<Attributes, Errno> {
        // What is said of it is the same everywhere; the rest is of a directory that does not matter.
        let mut stat = fstat(&*self.own.directory)?;
        stat.st_mode = FileType::Directory.as_raw_mode() | 0o755;
        (stat.st_uid, stat.st_gid, stat.st_size, stat.st_nlink) = (0, 0, 0, 2);
        Ok(Attributes { number: ROOT, stat })
    }
}

/// `nobody`
const NOBODY: u32 = 65534;

/// A mode's bits without the type.
fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & 0o7777)
}

pub(super) fn user(number: u32) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(number)
}

pub(super) fn group(number: u32) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(number)
}

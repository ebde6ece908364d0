//! What is in files and directories: opening, reading, writing, making room, making durable. Bytes go between file and guest memory
//! without a stop. Refuses to open anything but regular files and directories.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    FallocateFlags, FileType, Mode, OFlags, RawDir, SeekFrom, copy_file_range, fallocate,
    fdatasync, fstat, fsync, openat2, seek, syncfs,
};
use rustix::io::Errno;

use super::abi::{Fields, Header, OUT_HEADER};
use super::handles::Handle;
use super::nodes::{STAY, again};
use super::server::{MOST_BYTES, Server, reply, write_header};
use crate::chain::Chain;

/// Of an answer to `OPEN`: what the guest has of the file's pages is still right.
const KEEP_CACHE: u32 = 1 << 1;
/// Of a write: it comes out of the guest's page cache, and belongs where it says even in a file that is appended to.
const FROM_CACHE: u32 = 1;
/// Of a write: setuid and setgid bits have to go.
const KILL_SUIDGID: u32 = 1 << 2;
/// Bytes of `fuse_dirent` before the name.
const ENTRY: usize = 24;
/// Bytes of `fuse_entry_out`.
const ATTRIBUTES: usize = 128;
/// Bytes of the longest entry, as the kernel gives it.
const LONGEST_ENTRY: usize = 280;
/// Most bytes of directory entries read at once.
const MOST_ENTRIES: usize = 32 << 10;
/// Most bytes written by one system call: for each page that it writes, Linux looks at all that are still to come, each a vector
/// of its own. An append is whole, so that no other gets in between.
const PIECE: usize = 64 << 10;
/// Of `fsync`: the file's data alone.
const DATA_ONLY: u32 = 1;

/// The flags with which a guest may have a file opened. Where an append goes is settled at each write.
pub(super) fn flags_of(flags: u32) -> OFlags {
    let kept = OFlags::RDONLY
        | OFlags::WRONLY
        | OFlags::RDWR
        | OFlags::TRUNC
        | OFlags::SYNC
        | OFlags::DSYNC;
    // Nothing that blocks is opened, but for what the host puts in a file's place.
    (OFlags::from_bits_retain(flags) & kept) | OFlags::NONBLOCK | OFlags::NOCTTY
}

fn writes(flags: u32) -> bool {
    let mode = OFlags::from_bits_retain(flags);
    mode.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}

impl Server {
    /// Opens the file that a node is.
    pub(super) fn file_of(&mut self, node: u64, flags: u32) -> Result<OwnedFd, Errno> {
        let kind = self.nodes.get(node)?.kind;
        match kind {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::NXIO),
        }
        if writes(flags) {
            self.nodes.may_change(node)?;
        }
        let descriptor = self.descriptor(node)?;
        self.reopen(&descriptor, flags_of(flags))
    }

    pub(super) fn directory_of(&mut self, node: u64) -> Result<OwnedFd, Errno> {
        if self.nodes.get(node)?.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let descriptor = self.descriptor(node)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        again(|| openat2(&descriptor, c".", flags, Mode::empty(), STAY))
    }

    pub(super) fn open(&mut self, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (flags, how) = (fields.u32()?, fields.u32()?);
        self.handles.has_room()?;
        let file = self.file_of(header.node, flags)?;
        if how & 1 != 0 {
            self.drop_gaining(&file)?;
        }
        let stat = fstat(&file)?;
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let now = (stat.st_mtime, nanoseconds, stat.st_size);
        let before = std::mem::replace(&mut self.nodes.get_mut(header.node)?.seen, now);
        let handle = self.handles.add(Handle {
            file: Arc::new(file),
            node: header.node,
            flags,
            directory: false,
        })?;
        let keep = if before == now { KEEP_CACHE } else { 0 };
        self.out().u64(handle).u32(keep).u32(0);
        Ok(())
    }

    pub(super) fn read(&mut self, header: Header, chain: &mut Chain<'_>) -> usize {
        match self.read_into(header, chain) {
            Ok(written) => written,
            Err(errno) => reply(chain, header.unique, Err(errno), &[]),
        }
    }

    fn read_into(&mut self, header: Header, chain: &mut Chain<'_>) -> Result<usize, Errno> {
        let mut request = [0; 20];
        if chain.readable.read(&mut request) < request.len() {
            return Err(Errno::INVAL);
        }
        let mut fields = Fields(&request);
        let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let file = Arc::clone(&self.handles.file(handle, header.node)?.file);
        let mut front = (chain.writable.split_off(OUT_HEADER)).map_err(|_| Errno::INVAL)?;
        let mut left = usize::try_from(size.min(MOST_BYTES)).unwrap_or(0);
        let (mut done, mut offset) = (0_usize, offset);
        let mut failure = None;
        while left != 0 {
            match chain.writable.read_at(file.as_fd(), offset, left) {
                Ok(0) => break,
                Ok(count) => {
                    done = done.saturating_add(count);
                    left = left.saturating_sub(count);
                    offset = offset.saturating_add(u64::try_from(count).unwrap_or(0));
                }
                Err(error) => {
                    failure = Errno::from_io_error(&error).or(Some(Errno::IO));
                    break;
                }
            }
        }
        std::mem::swap(&mut chain.writable, &mut front);
        Ok(match failure {
            Some(errno) if done == 0 => write_header(chain, header.unique, Err(errno), 0),
            _ => write_header(chain, header.unique, Ok(()), done).saturating_add(done),
        })
    }

    pub(super) fn write(&mut self, header: Header, chain: &mut Chain<'_>) -> Result<(), Errno> {
        let mut request = [0; 40];
        if chain.readable.read(&mut request) < request.len() {
            return Err(Errno::INVAL);
        }
        let mut fields = Fields(&request);
        let (handle, mut offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let (how, _lock, flags) = (fields.u32()?, fields.u64()?, fields.u32()?);
        self.nodes.may_change(header.node)?;
        let file = Arc::clone(&self.handles.file(handle, header.node)?.file);
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MOST_BYTES || left > chain.readable.left() {
            return Err(Errno::INVAL);
        }
        if how & KILL_SUIDGID != 0 {
            self.drop_gaining(&file)?;
        }
        let append = OFlags::from_bits_retain(flags).contains(OFlags::APPEND);
        let append = append && how & FROM_CACHE == 0;
        let mut done = 0_u32;
        while left != 0 {
            let written = match append {
                true => chain.readable.append_to(file.as_fd(), left),
                false => chain
                    .readable
                    .write_at(file.as_fd(), offset, left.min(PIECE)),
            };
            match written {
                Ok(0) => break,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    offset = offset.saturating_add(u64::try_from(count).unwrap_or(0));
                    done = done.saturating_add(u32::try_from(count).unwrap_or(0));
                }
                Err(error) if done == 0 => {
                    return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
                }
                Err(_) => break,
            }
        }
        self.out().u32(done).u32(0);
        Ok(())
    }

    pub(super) fn open_directory(&mut self, header: Header) -> Result<(), Errno> {
        self.handles.has_room()?;
        let file = match Self::is_root(header) {
            // Whatever is open in its place, it is not read.
            true => Arc::clone(&self.own.directory),
            false => Arc::new(self.directory_of(header.node)?),
        };
        let handle = self.handles.add(Handle {
            file,
            node: header.node,
            flags: 0,
            directory: true,
        })?;
        self.out().u64(handle).u64(0);
        Ok(())
    }

    /// Entries of a directory; `plus` what each of them is, as if it had been looked up.
    pub(super) fn read_directory(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
        room: usize,
        plus: bool,
    ) -> Result<(), Errno> {
        let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let directory = Arc::clone(&self.handles.directory(handle, header.node)?.file);
        if Self::is_root(header) {
            return Ok(());
        }
        let room = room
            .min(usize::try_from(size).unwrap_or(0))
            .min(MOST_ENTRIES);
        let device = fstat(&directory)?.st_dev;
        seek(&directory, SeekFrom::Start(offset))?;
        // An entry takes at most a third more than the kernel gives it, and with its attributes seven times as much.
        let length = match plus {
            true => (room / 7).max(LONGEST_ENTRY),
            false => room.saturating_sub(room.div_ceil(4)),
        };
        let mut buffer = vec![MaybeUninit::uninit(); length];
        let mut entries = RawDir::new(&directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kind = entry.file_type().as_raw_mode() >> 12;
            let number = self.inode_number(device, entry.ino());
            let padding = name.len().wrapping_neg() & 7;
            let length = ENTRY.saturating_add(name.len()).saturating_add(padding);
            let whole = length.saturating_add(if plus { ATTRIBUTES } else { 0 });
            if self.out().0.len().saturating_add(whole) > room {
                break;
            }
            if plus {
                match name {
                    b"." | b".." => self.answer_no_entry(),
                    _ => self.answer_entry_of(header.node, entry.file_name()),
                }
            }
            self.out()
                .u64(number)
                .u64(entry.next_entry_cookie())
                .u32(u32::try_from(name.len()).unwrap_or(0))
                .u32(kind)
                .bytes(name)
                .bytes([0; 8].get(..padding).unwrap_or_default());
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn sync(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
        directory: bool,
    ) -> Result<(), Errno> {
        let (handle, flags) = (fields.u64()?, fields.u32()?);
        let handle = match directory {
            true => self.handles.directory(handle, header.node)?,
            false => self.handles.file(handle, header.node)?,
        };
        match flags & DATA_ONLY {
            0 => fsync(&handle.file),
            _ => fdatasync(&handle.file),
        }
    }

    /// `sync(2)` in the guest: whatever file system the node is in; all of them for the root.
    pub(super) fn sync_all(&mut self, _: Header) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for (root, read_only) in &self.nodes.shares {
            let kind = FileType::from_raw_mode(fstat(root)?.st_mode);
            if *read_only {
                continue;
            }
            match kind {
                FileType::Directory => {
                    let open = || openat2(root, c".", flags, Mode::empty(), STAY);
                    syncfs(again(open)?)?;
                }
                FileType::RegularFile => fsync(self.reopen(root, flags)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn allocate(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let (handle, offset, length) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let mode = FallocateFlags::from_bits(fields.u32()?).ok_or(Errno::OPNOTSUPP)?;
        self.nodes.may_change(header.node)?;
        let file = &self.handles.file(handle, header.node)?.file;
        fallocate(file, mode, offset, length)
    }

    pub(super) fn seek(&mut self, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (handle, offset, whence) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let to = match whence {
            3 => SeekFrom::Data(offset),
            4 => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let found = seek(&self.handles.file(handle, header.node)?.file, to)?;
        self.out().u64(found);
        Ok(())
    }

    pub(super) fn copy_range(
        &mut self,
        header: Header,
        fields: &mut Fields<'_>,
    ) -> Result<(), Errno> {
        let (from, mut from_at) = (fields.u64()?, fields.u64()?);
        let (node, to, mut to_at) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (length, _flags) = (fields.u64()?, fields.u64()?);
        self.nodes.may_change(node)?;
        let from = Arc::clone(&self.handles.file(from, header.node)?.file);
        let to = Arc::clone(&self.handles.file(to, node)?.file);
        // No more than a turn's worth: the guest asks for the rest.
        let length = usize::try_from(length.min(16 << 20)).unwrap_or(0);
        let done = copy_file_range(&from, Some(&mut from_at), &to, Some(&mut to_at), length)?;
        self.out().u32(u32::try_from(done).unwrap_or(0)).u32(0);
        Ok(())
    }
}

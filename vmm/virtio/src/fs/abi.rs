//! FUSE's encoding (`include/uapi/linux/fuse.h`, version 7.38): numbers, and requests and answers as bytes. Refuses to know what
//! they do.

use std::ffi::CStr;

use rustix::fs::Stat;
use rustix::io::Errno;

/// The version that is spoken.
pub(super) const MAJOR: u32 = 7;
pub(super) const MINOR: u32 = 38;
/// Bytes before every request and every answer.
pub(super) const IN_HEADER: usize = 40;
pub(super) const OUT_HEADER: usize = 16;
/// The device's root directory.
pub(super) const ROOT: u64 = 1;
/// Longest name of a directory's entry.
const LONGEST_NAME: usize = 255;

/// What is asked for.
pub(super) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const SYNCFS: u32 = 50;
    pub(crate) const TMPFILE: u32 = 51;
}

/// What is agreed on at the beginning.
pub(super) mod feature {
    pub(crate) const ASYNC_READ: u32 = 1 << 0;
    pub(crate) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    /// Modes of what is made come as they were asked for, and the umask beside them.
    pub(crate) const DONT_MASK: u32 = 1 << 6;
    pub(crate) const AUTO_INVAL_DATA: u32 = 1 << 12;
    /// Entries of a directory come with their attributes, where the guest thinks that it needs them.
    pub(crate) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(crate) const PARALLEL_DIROPS: u32 = 1 << 18;
    /// The guest judges by access control lists.
    pub(crate) const POSIX_ACL: u32 = 1 << 20;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
    /// The guest says when setuid and setgid bits have to go, instead of asking for capabilities before each write.
    pub(crate) const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}

/// The header of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; IN_HEADER]) -> Result<Self, Errno> {
        let mut fields = Fields(bytes);
        fields.u32()?;
        Ok(Self {
            opcode: fields.u32()?,
            unique: fields.u64()?,
            node: fields.u64()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
        })
    }
}

/// What follows a header, field by field.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (front, back) = self.0.split_first_chunk::<N>().ok_or(Errno::INVAL)?;
        self.0 = back;
        Ok(*front)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    /// Text that ends in a zero.
    pub(super) fn text(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = self
            .0
            .get(text.count_bytes().saturating_add(1)..)
            .unwrap_or_default();
        Ok(text)
    }

    /// The name of an entry: one component of a path that leads no higher. The only way a name comes into the server.
    pub(super) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.text()?;
        match name.to_bytes() {
            b"" | b"." | b".." => Err(Errno::INVAL),
            bytes if bytes.len() > LONGEST_NAME => Err(Errno::NAMETOOLONG),
            bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
            _ => Ok(name),
        }
    }
}

/// An answer's bytes.
#[derive(Debug, Default)]
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `fuse_attr`
    pub(super) fn attributes(&mut self, of: &Attributes) -> &mut Self {
        let stat = &of.stat;
        let seconds = [stat.st_atime, stat.st_mtime, stat.st_ctime];
        let nanoseconds = [stat.st_atime_nsec, stat.st_mtime_nsec, stat.st_ctime_nsec];
        self.u64(of.number)
            .u64(stat.st_size.cast_unsigned())
            .u64(stat.st_blocks.cast_unsigned());
        for part in seconds {
            self.u64(part.cast_unsigned());
        }
        for part in nanoseconds {
            self.u32(u32::try_from(part).unwrap_or(0));
        }
        self.u32(stat.st_mode)
            .u32(u32::try_from(stat.st_nlink).unwrap_or(u32::MAX))
            .u32(stat.st_uid)
            .u32(stat.st_gid)
            .u32(u32::try_from(stat.st_rdev).unwrap_or(0))
            .u32(u32::try_from(stat.st_blksize).unwrap_or(4096))
            .u32(0)
    }
}

/// What a file is, as the guest sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    /// Its inode's number.
    pub(super) number: u64,
    /// All the rest.
    pub(super) stat: Stat,
}

//! The bytes of EROFS structures (erofs_fs.h): superblock, inodes, extended attributes, directory
//! blocks. Knows no file and no order of things.

use super::{BLOCK_BITS, BLOCK_SIZE};
use crate::tar::Time;

const MAGIC: u32 = 0xe0f5_e1e2;
const FEATURE_COMPAT_MTIME: u32 = 0x2;
const FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 0x4;
/// Where the superblock starts, in bytes.
pub(super) const SUPER_OFFSET: usize = 1024;
/// Its length, in bytes.
pub(super) const SUPER_SIZE: usize = 128;

/// `i_format`: data in consecutive blocks.
pub(super) const FLAT_PLAIN: u16 = 0;
/// `i_format`: the same, but the last part follows the inode.
pub(super) const FLAT_INLINE: u16 = 2;
/// `i_format`: a map of chunks follows the inode.
pub(super) const CHUNK_BASED: u16 = 4;
/// A chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;

/// Length of a directory entry without its name, in bytes.
pub(super) const DIRENT: usize = 12;

/// What the superblock says.
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    /// Time of all compact inodes.
    pub(super) epoch: Time,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
    pub(super) chunked: bool,
}

/// Little-endian bytes in the making.
#[derive(Default)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Bytes {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }
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
    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }
    pub(super) fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
    pub(super) fn align(&mut self, unit: usize) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(unit), 0);
        self
    }
}

impl Superblock {
    /// The 128 bytes. No checksum: the store knows the image by its digests, and a guest saves the sum.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Bytes::default();
        bytes.u32(MAGIC).u32(0).u32(FEATURE_COMPAT_MTIME);
        bytes
            .u8(BLOCK_BITS)
            .u8(0)
            .u16(self.root_nid)
            .u64(self.inodes);
        bytes
            .u64(self.epoch.seconds.cast_unsigned())
            .u32(self.epoch.nanoseconds);
        // Inodes are named from byte 0 on; there are no shared attributes.
        bytes.u32(self.blocks).u32(0).u32(0);
        bytes.bytes(&self.uuid).zeros(16);
        bytes.u32(if self.chunked {
            FEATURE_INCOMPAT_CHUNKED_FILE
        } else {
            0
        });
        bytes.zeros(SUPER_SIZE - 84);
        bytes.0
    }
}

/// An inode as it is written.
pub(super) struct RawInode {
    pub(super) extended: bool,
    /// One of the `i_format` layouts.
    pub(super) layout: u16,
    /// Kind and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) links: u32,
    pub(super) mtime: Time,
    /// First block, device number or chunk format.
    pub(super) union: u32,
    /// Serial number, for 32-bit `stat` only.
    pub(super) serial: u32,
    /// Length of the encoded attributes that follow, in bytes.
    pub(super) xattr_bytes: u64,
}

impl RawInode {
    pub(super) fn size_of(extended: bool) -> u64 {
        if extended { 64 } else { 32 }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a compact inode is chosen only where all fits"
    )]
    pub(super) fn encode(&self, bytes: &mut Bytes) {
        let xattr_count = match self.xattr_bytes {
            0 => 0,
            length => ((length - XATTR_HEADER) / 4 + 1) as u16,
        };
        bytes
            .u16(u16::from(self.extended) | self.layout << 1)
            .u16(xattr_count)
            .u16(self.mode);
        if self.extended {
            bytes.u16(0).u64(self.size).u32(self.union).u32(self.serial);
            bytes.u32(self.uid).u32(self.gid);
            bytes
                .u64(self.mtime.seconds.cast_unsigned())
                .u32(self.mtime.nanoseconds);
            bytes.u32(self.links).zeros(16);
        } else {
            bytes
                .u16(self.links as u16)
                .u32(self.size as u32)
                .u32(0)
                .u32(self.union);
            bytes
                .u32(self.serial)
                .u16(self.uid as u16)
                .u16(self.gid as u16)
                .u32(0);
        }
    }
}

/// Length of the header before the attributes of an inode, in bytes.
const XATTR_HEADER: u64 = 12;

/// The number of an attribute's prefix and the name without it; none where EROFS has no place for it.
pub(crate) fn xattr_name(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    let prefixes: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
    prefixes.iter().find_map(|(prefix, index)| {
        name.strip_prefix(*prefix)
            .filter(|rest| !rest.is_empty())
            .map(|rest| (*index, rest))
    })
}

/// Bytes the attributes of an inode need behind it; 0 for none.
pub(super) fn xattr_length(xattrs: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    let entry = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let (_, name) = xattr_name(name)?;
        Some((4 + name.len() as u64 + value.len() as u64).next_multiple_of(4))
    };
    match xattrs.iter().filter_map(entry).sum() {
        0 => 0,
        entries => XATTR_HEADER + entries,
    }
}

/// Writes what [`xattr_length`] measured, in the order of the names.
#[expect(
    clippy::cast_possible_truncation,
    reason = "lengths were bounded when the names were read"
)]
pub(super) fn xattrs(xattrs: &[(Vec<u8>, Vec<u8>)], bytes: &mut Bytes) {
    let mut entries: Vec<_> = xattrs
        .iter()
        .filter_map(|(name, value)| xattr_name(name).map(|(index, name)| (index, name, value)))
        .collect();
    entries.sort();
    if entries.is_empty() {
        return;
    }
    bytes.zeros(XATTR_HEADER as usize);
    for (index, name, value) in entries {
        bytes.u8(name.len() as u8).u8(index).u16(value.len() as u16);
        bytes.bytes(name).bytes(value).align(4);
    }
}

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    /// `FT_*`.
    pub(super) kind: u8,
}

/// How many of the names, whose lengths these are, share each block.
pub(super) fn directory_blocks(lengths: impl Iterator<Item = usize>) -> Vec<(u32, usize)> {
    let mut blocks: Vec<(u32, usize)> = Vec::new();
    for length in lengths {
        let cost = DIRENT + length;
        match blocks.last_mut() {
            Some((count, used)) if *used + cost <= BLOCK_SIZE => {
                *count += 1;
                *used += cost;
            }
            _ => blocks.push((1, cost)),
        }
    }
    blocks
}

/// One directory block: entries, then their names. Not filled up.
#[expect(clippy::cast_possible_truncation, reason = "a block has 4096 bytes")]
pub(super) fn directory_block(entries: &[Dirent<'_>], bytes: &mut Bytes) {
    let mut offset = entries.len() * DIRENT;
    for entry in entries {
        bytes.u64(entry.nid).u16(offset as u16).u8(entry.kind).u8(0);
        offset += entry.name.len();
    }
    for entry in entries {
        bytes.bytes(entry.name);
    }
}

/// Linux' 32-bit device number; none beyond 12 and 20 bits.
pub(super) fn device(major: u32, minor: u32) -> Option<u32> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return None;
    }
    Some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

//! The disk that keeps what a container writes: a sparse file with an empty ext4 file system in it, so that the host needs
//! neither root nor a program to make one. Only what mke2fs would make of it is written: a dozen blocks, whatever its size.
//!
//! Knows no container. The guest's kernel replays the journal at each mount, so a machine that was killed leaves what a
//! computer without power would.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The file's name in the container's directory.
pub(crate) const NAME: &str = "storage";
/// The smallest disk: half of it holds no files, in bytes.
pub(crate) const LEAST: u64 = 16 << 20;
/// The largest, in bytes: further, numbers of blocks no longer fit the short descriptors written here.
pub(crate) const MOST: u64 = 8 << 40;

/// Bytes of a block.
const BLOCK: u64 = 4096;
const BLOCK_BYTES: u16 = 4096;
/// Blocks of a group: as many as bits of a block.
const GROUP: u64 = BLOCK * 8;
/// Inodes of a group.
const INODES: u64 = 8192;
/// Bytes of an inode.
const INODE: u64 = 256;
type Inode = [u8; 256];
/// Blocks of a group's inode table.
const TABLE: u64 = INODES * INODE / BLOCK;
/// Blocks of two bitmaps and a table; a last group with less than four times as much is left out.
const OVERHEAD: u64 = TABLE + 2;
/// Bytes of a group's descriptor.
const DESCRIPTOR: usize = 32;

/// Inodes with a purpose (and those up to the first free one, 11).
const ROOT: u64 = 2;
const JOURNAL: u64 = 8;
const LOST_AND_FOUND: u64 = 11;

/// Features: has_journal, ext_attr, dir_index, sparse_super2 (without any second superblock).
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20 | 0x200;
/// filetype, extents.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// large_file, huge_file, uninit_bg, dir_nlink, extra_isize.
const READ_ONLY_COMPATIBLE: u32 = 0x2 | 0x8 | 0x10 | 0x20 | 0x40;

/// Flags of a group: no inode and no block of it was ever used, its inode table is zeros.
const NO_INODES: u16 = 1;
const NO_BLOCKS: u16 = 2;
const ZEROED: u16 = 4;

/// Flag of an inode whose blocks are listed by extents.
const EXTENTS: u32 = 0x8_0000;

/// Where everything is.
struct Layout {
    blocks: u64,
    groups: u64,
    /// Blocks of all descriptors.
    descriptors: u64,
    /// Blocks of the journal.
    journal: u64,
}

impl Layout {
    fn new(bytes: u64) -> Self {
        let mut blocks = bytes.clamp(LEAST, MOST) / BLOCK;
        let last = blocks % GROUP;
        if blocks > GROUP && last < OVERHEAD * 4 {
            blocks -= last;
        }
        let groups = blocks.div_ceil(GROUP);
        Self {
            blocks,
            groups,
            descriptors: (groups * DESCRIPTOR as u64).div_ceil(BLOCK),
            journal: if blocks < GROUP { 1024 } else { 4096 },
        }
    }

    /// The first block of a group that is free for its bitmaps: the first group has the superblock before them.
    fn start(&self, group: u64) -> u64 {
        let before = if group == 0 { 1 + self.descriptors } else { 0 };
        group * GROUP + before
    }

    /// Blocks of a group.
    fn size(&self, group: u64) -> u64 {
        (self.blocks - group * GROUP).min(GROUP)
    }

    /// The journal's first block; the two directories follow it.
    fn journal_start(&self) -> u64 {
        self.start(0) + OVERHEAD
    }

    fn root(&self) -> u64 {
        self.journal_start() + self.journal
    }

    /// How many blocks from the start of the group are in use.
    fn used(&self, group: u64) -> u64 {
        let more = if group == 0 { self.journal + 2 } else { 0 };
        self.start(group) - group * GROUP + OVERHEAD + more
    }

    /// Used inodes: all the reserved ones, and lost+found.
    fn used_inodes(group: u64) -> u64 {
        if group == 0 { LOST_AND_FOUND } else { 0 }
    }
}

/// How long the file of a disk of so many bytes is: whole blocks, and no last group that would hold next to nothing.
pub(crate) fn length(bytes: u64) -> u64 {
    Layout::new(bytes).blocks * BLOCK
}

/// Makes the file, which is empty, a disk of so many bytes with an empty file system.
pub(crate) fn format(file: &File, bytes: u64, uuid: [u8; 16], now: u32) -> io::Result<()> {
    let layout = Layout::new(bytes);
    file.set_len(layout.blocks * BLOCK)?;
    let put = |block: u64, bytes: &[u8]| file.write_all_at(bytes, block * BLOCK);
    put(1, &descriptors(&layout, uuid))?;
    put(layout.start(0), &block_bitmap(&layout, 0))?;
    if layout.groups > 1 {
        let last = layout.groups - 1;
        put(layout.start(last), &block_bitmap(&layout, last))?;
    }
    put(layout.start(0) + 1, &bitmap(LOST_AND_FOUND, INODES))?;
    let table = (layout.start(0) + 2) * BLOCK;
    let inode = |number: u64, inode: Inode| file.write_all_at(&inode, table + (number - 1) * INODE);
    let directory = |mode: u64, links, block| encode_inode(0o040_000 | mode, links, block, 1, now);
    inode(ROOT, directory(0o755, 3, layout.root()))?;
    inode(LOST_AND_FOUND, directory(0o700, 2, layout.root() + 1))?;
    inode(JOURNAL, journal_inode(&layout, now))?;
    put(
        layout.root(),
        &entries(&[(ROOT, b"."), (ROOT, b".."), (LOST_AND_FOUND, b"lost+found")]),
    )?;
    put(
        layout.root() + 1,
        &entries(&[(LOST_AND_FOUND, b"."), (ROOT, b"..")]),
    )?;
    put(layout.journal_start(), &journal(&layout, uuid))?;
    // Last: without it there is no file system.
    file.write_all_at(&superblock(&layout, uuid, now), 1024)
}

/// A structure that is filled in by offset.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        let room = self.0.get_mut(at..).into_iter().flatten();
        room.zip(bytes).for_each(|(to, from)| *to = *from);
        self
    }

    fn u16(&mut self, at: usize, value: u64) -> &mut Self {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        self.put(at, &value.to_le_bytes())
    }

    fn u32(&mut self, at: usize, value: u64) -> &mut Self {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.put(at, &value.to_le_bytes())
    }
}

fn superblock(layout: &Layout, uuid: [u8; 16], now: u32) -> [u8; 1024] {
    let free = |group| layout.size(group) - layout.used(group);
    let free_blocks: u64 = (0..layout.groups).map(free).sum();
    let mut block = Bytes([0; 1024]);
    block
        .u32(0, layout.groups * INODES)
        .u32(4, layout.blocks)
        .u32(12, free_blocks)
        .u32(16, layout.groups * INODES - LOST_AND_FOUND)
        .u32(24, 2) // blocks and clusters of 1024 << 2 bytes
        .u32(28, 2)
        .u32(32, GROUP)
        .u32(36, GROUP)
        .u32(40, INODES)
        .u32(48, now.into())
        .u16(54, 0xffff) // mounts before a check: never
        .u16(56, 0xef53)
        .u16(58, 1) // clean
        .u16(60, 2) // after an error: read-only
        .u32(64, now.into())
        .u32(76, 1) // revision with features
        .u32(84, LOST_AND_FOUND)
        .u16(88, INODE)
        .u32(92, COMPATIBLE.into())
        .u32(96, INCOMPATIBLE.into())
        .u32(100, READ_ONLY_COMPATIBLE.into())
        .put(104, &uuid)
        .u32(224, JOURNAL)
        .put(236, &uuid) // the seed of directories' hashes
        .put(252, &[1, 1]) // half MD4; the journal's inode is repeated below
        .u32(256, 0xc) // user attributes and ACLs
        .u32(264, now.into())
        .put(268, journal_inode(layout, now).get(40..100).unwrap_or(&[]))
        .u32(332, layout.journal * BLOCK)
        .u16(348, 32) // bytes of an inode beyond 128
        .u16(350, 32)
        .u32(352, 1); // hashes of signed characters
    block.0
}

fn descriptors(layout: &Layout, uuid: [u8; 16]) -> Vec<u8> {
    let mut all = Vec::new();
    let sum_of_uuid = crc16(0xffff, &uuid);
    for group in 0..layout.groups {
        let start = layout.start(group);
        let used_inodes = Layout::used_inodes(group);
        let mut flags = ZEROED;
        if group > 0 {
            flags |= NO_INODES;
        }
        // The last group is checked to have a bitmap of its own.
        if group > 0 && group + 1 < layout.groups {
            flags |= NO_BLOCKS;
        }
        let mut descriptor = Bytes([0; DESCRIPTOR]);
        descriptor
            .u32(0, start)
            .u32(4, start + 1)
            .u32(8, start + 2)
            .u16(12, layout.size(group) - layout.used(group))
            .u16(14, INODES - used_inodes)
            .u16(16, if group == 0 { 2 } else { 0 })
            .u16(18, flags.into())
            .u16(28, INODES - used_inodes);
        let number = u32::try_from(group).unwrap_or(u32::MAX);
        let mut sum = crc16(sum_of_uuid, &number.to_le_bytes());
        sum = crc16(sum, descriptor.0.get(..30).unwrap_or(&[]));
        descriptor.u16(30, sum.into());
        all.extend(descriptor.0);
    }
    all
}

fn block_bitmap(layout: &Layout, group: u64) -> Vec<u8> {
    bitmap(layout.used(group), layout.size(group))
}

/// The first `used` bits are set, and those from `size` on, which stand for nothing.
fn bitmap(used: u64, size: u64) -> Vec<u8> {
    let bit = |bit: u64| u8::from(bit < used || bit >= size);
    let byte = |byte: u64| match (byte * 8, byte * 8 + 8) {
        // Nearly all: a disk is made at each run that has one.
        (_, end) if end <= used => 0xff,
        (first, end) if first >= used && end <= size => 0,
        (first, _) => (0..8).fold(0, |bits, n| bits | bit(first + n) << n),
    };
    (0..BLOCK).map(byte).collect()
}

/// An inode with `count` blocks from `block` on.
fn encode_inode(mode: u64, links: u64, block: u64, count: u64, now: u32) -> Inode {
    let now = now.into();
    let mut inode = Bytes([0; 256]);
    inode
        .u16(0, mode)
        .u32(4, count * BLOCK)
        .u32(8, now)
        .u32(12, now)
        .u32(16, now)
        .u16(26, links)
        .u32(28, count * BLOCK / 512)
        .u32(32, EXTENTS.into())
        // The head of a list of extents: one of four, at no depth; and the extent.
        .u16(40, 0xf30a)
        .u16(42, 1)
        .u16(44, 4)
        .u16(56, count)
        .u32(60, block)
        .u16(128, 32)
        .u32(144, now);
    inode.0
}

fn journal_inode(layout: &Layout, now: u32) -> Inode {
    encode_inode(0o100_600, 1, layout.journal_start(), layout.journal, now)
}

/// A block of a directory that has directories in it.
fn entries(list: &[(u64, &[u8])]) -> [u8; BLOCK_BYTES as usize] {
    let mut block = Bytes([0; BLOCK_BYTES as usize]);
    let mut at = 0;
    for (index, (inode, name)) in list.iter().enumerate() {
        // Eight bytes and the name, which is short; the last one takes the rest.
        let length = match index + 1 == list.len() {
            true => usize::from(BLOCK_BYTES) - at,
            false => (8 + name.len()).next_multiple_of(4),
        };
        block
            .u32(at, *inode)
            .u16(at + 4, length as u64)
            .u16(at + 6, name.len() as u64 | 2 << 8)
            .put(at + 8, name);
        at += length;
    }
    block.0
}

/// The journal's own superblock, which is big-endian: version 2, empty, of one user.
fn journal(layout: &Layout, uuid: [u8; 16]) -> [u8; 1024] {
    let length = u32::try_from(layout.journal).unwrap_or(u32::MAX);
    let words = [0xc03b_3998, 4, 0, u32::from(BLOCK_BYTES), length, 1, 1];
    let mut block = Bytes([0; 1024]);
    for (index, word) in words.into_iter().enumerate() {
        block.put(index * 4, &word.to_be_bytes());
    }
    block.put(48, &uuid).put(64, &1_u32.to_be_bytes());
    block.0
}

/// The checksum of descriptors: CRC-16, polynomial 0x8005 reflected.
fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| match sum & 1 {
            0 => sum >> 1,
            _ => sum >> 1 ^ 0xa001,
        })
    })
}

#[cfg(test)]
mod tests;

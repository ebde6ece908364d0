//! Decides where every inode of an image goes before anything of it is written: positions name
//! inodes, and directories hold the names of what is written after them.

use std::collections::HashMap;

use super::encode::{
    self, CHUNK_BASED, FLAT_INLINE, FLAT_PLAIN, RawInode, SUPER_OFFSET, SUPER_SIZE,
};
use super::{BLOCK, Place, SLOT, WriteError};
use crate::tar::Time;
use crate::tree::{Content, Inode, InodeId, Tree};

/// First byte behind the superblock.
const FIRST: u64 = (SUPER_OFFSET + SUPER_SIZE) as u64;
/// Longest encoded attributes of one inode, in bytes: their length has 16 bits, in units of 4.
const MAX_XATTRS: u64 = 4 * (u16::MAX as u64 - 1);

/// Where one inode goes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Placement {
    /// Byte in the image; 0 is nowhere.
    pub(super) offset: u64,
    pub(super) extended: bool,
    pub(super) layout: u16,
    /// For a directory or a long link: where its own blocks start.
    pub(super) block: u32,
}

/// Everything decided.
pub(super) struct Layout {
    /// By [`InodeId::index`].
    pub(super) places: Vec<Placement>,
    /// In the order of the image.
    pub(super) order: Vec<InodeId>,
    pub(super) epoch: Time,
    pub(super) chunked: bool,
    /// Where the image ends, in bytes.
    pub(super) end: u64,
}

/// What has to stay together.
struct Footprint {
    extended: bool,
    layout: u16,
    /// Blocks of its own.
    blocks: u32,
    /// Inode and attributes, in bytes.
    head: u64,
    /// What follows them, in bytes.
    tail: u64,
}

/// Directories breadth first, then everything else directory by directory.
fn order(tree: &Tree) -> Vec<InodeId> {
    let mut order = vec![InodeId::ROOT];
    let mut next = 0;
    let is_directory = |id| {
        tree.inode(id)
            .is_some_and(|inode| matches!(inode.content, Content::Directory(_)))
    };
    while let Some(directory) = order.get(next).copied() {
        order.extend(
            tree.children(directory)
                .map(|(_, id)| id)
                .filter(|id| is_directory(*id)),
        );
        next += 1;
    }
    let mut seen = vec![false; tree.places()];
    for position in 0..order.len() {
        let Some(directory) = order.get(position).copied() else {
            break;
        };
        for (_, id) in tree.children(directory) {
            if let Some(seen) = seen.get_mut(id.index())
                && !*seen
                && !is_directory(id)
            {
                *seen = true;
                order.push(id);
            }
        }
    }
    order
}

/// The most frequent time: inodes that have it can be compact.
fn epoch(tree: &Tree, order: &[InodeId]) -> Time {
    let mut counts: HashMap<Time, usize> = HashMap::new();
    for inode in order.iter().filter_map(|id| tree.inode(*id)) {
        *counts.entry(inode.attributes.mtime).or_default() += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(time, count)| (*count, std::cmp::Reverse(*time)));
    most.map_or(Time::default(), |(time, _)| time)
}

/// Names of a directory with `.` and `..`, in byte order.
pub(super) fn names(tree: &Tree, id: InodeId) -> Vec<(&[u8], InodeId)> {
    let mut names: Vec<(&[u8], InodeId)> = vec![(b".", id), (b"..", tree.parent(id))];
    names.extend(tree.children(id));
    names.sort_unstable_by_key(|(name, _)| *name);
    names
}

/// Names an inode has in the sense of `stat`.
pub(super) fn links(tree: &Tree, id: InodeId, inode: &Inode) -> u32 {
    if !matches!(inode.content, Content::Directory(_)) {
        return inode.links;
    }
    let below = tree.children(id).filter(|(_, id)| {
        tree.inode(*id)
            .is_some_and(|inode| matches!(inode.content, Content::Directory(_)))
    });
    u32::try_from(below.count())
        .unwrap_or(u32::MAX)
        .saturating_add(2)
}

/// Length of an inode's data, in bytes.
pub(super) fn size(tree: &Tree, id: InodeId, inode: &Inode) -> u64 {
    match &inode.content {
        Content::File(data) => data.size,
        Content::Symlink(target) => target.len() as u64,
        Content::Directory(_) => {
            let lengths = names(tree, id).into_iter().map(|(name, _)| name.len());
            let blocks = encode::directory_blocks(lengths);
            let last = blocks.last().map_or(0, |(_, used)| *used as u64);
            (blocks.len() as u64).saturating_sub(1) * BLOCK + last
        }
        _ => 0,
    }
}

fn footprint(
    tree: &Tree,
    id: InodeId,
    inode: &Inode,
    epoch: Time,
) -> Result<Footprint, WriteError> {
    let size = size(tree, id, inode);
    let attributes = &inode.attributes;
    let fits = |value: u32| value <= u32::from(u16::MAX);
    let extended = attributes.mtime != epoch
        || !fits(attributes.uid)
        || !fits(attributes.gid)
        || !fits(links(tree, id, inode))
        || u32::try_from(size).is_err();
    let xattrs = encode::xattr_length(&attributes.xattrs);
    if xattrs > MAX_XATTRS {
        return Err(WriteError::Xattrs(xattrs));
    }
    let head = RawInode::size_of(extended) + xattrs;
    let plain = Footprint {
        extended,
        layout: FLAT_PLAIN,
        blocks: 0,
        head,
        tail: 0,
    };
    Ok(match &inode.content {
        Content::Directory(_) | Content::Symlink(_) => {
            let tail = size % BLOCK;
            let blocks =
                |bytes: u64| u32::try_from(bytes / BLOCK).map_err(|_| WriteError::TooLarge(bytes));
            // The root must fit behind the superblock.
            let room = if id == InodeId::ROOT {
                BLOCK - FIRST
            } else {
                BLOCK
            };
            if tail > 0 && head + tail <= room {
                Footprint {
                    layout: FLAT_INLINE,
                    blocks: blocks(size)?,
                    tail,
                    ..plain
                }
            } else {
                Footprint {
                    blocks: blocks(size.next_multiple_of(BLOCK))?,
                    ..plain
                }
            }
        }
        Content::File(data) => match data.place {
            Place::Chunked { .. } => Footprint {
                layout: CHUNK_BASED,
                tail: data.map_bytes(),
                ..plain
            },
            Place::Dense { .. } => plain,
        },
        _ => plain,
    })
}

/// Places everything; `start` is the first byte behind the data.
pub(super) fn place(tree: &Tree, start: u64) -> Result<Layout, WriteError> {
    let order = order(tree);
    let epoch = epoch(tree, &order);
    let mut places = vec![Placement::default(); tree.places()];
    let mut chunked = false;

    // Blocks of large directories and long links first: they are aligned, the rest is not.
    let mut footprints = Vec::with_capacity(order.len());
    let mut end = start;
    for id in &order {
        let Some(inode) = tree.inode(*id) else {
            continue;
        };
        let footprint = footprint(tree, *id, inode, epoch)?;
        let block = u32::try_from(end / BLOCK).map_err(|_| WriteError::TooLarge(end))?;
        end += u64::from(footprint.blocks) * BLOCK;
        footprints.push((*id, footprint, block));
    }

    let mut first = FIRST;
    for (id, footprint, block) in footprints {
        let Footprint {
            extended,
            layout,
            head,
            tail,
            ..
        } = footprint;
        chunked |= layout == CHUNK_BASED;
        let length = (head + tail).next_multiple_of(SLOT);
        let offset = if first + length <= BLOCK {
            first += length;
            first - length
        } else if id == InodeId::ROOT {
            // The superblock has 16 bits for the root's position: it must be here.
            return Err(WriteError::Xattrs(head));
        } else {
            // An inode stays in one block, and so does a tail with all that is before it.
            let together = match layout {
                FLAT_INLINE => head + tail,
                _ => RawInode::size_of(extended),
            };
            if end % BLOCK + together > BLOCK {
                end = end.next_multiple_of(BLOCK);
            }
            end += length;
            end - length
        };
        if let Some(place) = places.get_mut(id.index()) {
            *place = Placement {
                offset,
                extended,
                layout,
                block,
            };
        }
    }
    Ok(Layout {
        places,
        order,
        epoch,
        chunked,
        end: end.next_multiple_of(BLOCK),
    })
}

//! Writes everything but file data, once all layers have been applied.

use super::encode::{self, Bytes, Dirent, FLAT_PLAIN, HOLE, RawInode, SUPER_OFFSET, Superblock};
use super::layout::{self, Layout, Placement};
use super::{
    BLOCK, BLOCK_BITS, BLOCK_SIZE, DataWriter, FileData, Finished, Place, SLOT, WriteError,
};
use crate::tree::{Content, Inode, InodeId, Tree};

/// Finishes the image whose data `data` has written.
pub(crate) fn finish(
    mut data: DataWriter<'_>,
    tree: &Tree,
    uuid: [u8; 16],
) -> Result<Finished, WriteError> {
    data.align()?;
    let layout = layout::place(tree, data.position())?;
    let mut first = Bytes::default();
    first.zeros(BLOCK_SIZE);
    let mut writer = Metadata {
        data,
        tree,
        layout: &layout,
        first: first.0,
    };
    writer.blocks()?;
    for (serial, id) in layout.order.iter().enumerate() {
        if let Some(inode) = tree.inode(*id) {
            writer.inode(*id, inode, u32::try_from(serial + 1).unwrap_or(u32::MAX))?;
        }
    }
    writer.data.align()?;
    let root = writer.place(InodeId::ROOT).offset / SLOT;
    let blocks = layout.end >> BLOCK_BITS;
    let superblock = Superblock {
        root_nid: u16::try_from(root).map_err(|_| WriteError::TooLarge(layout.end))?,
        inodes: layout.order.len() as u64,
        epoch: layout.epoch,
        blocks: u32::try_from(blocks).map_err(|_| WriteError::TooLarge(layout.end))?,
        uuid,
        chunked: layout.chunked,
    };
    writer.emit(SUPER_OFFSET as u64, &superblock.encode())?;
    writer.data.finish(&writer.first, layout.end)
}

struct Metadata<'a> {
    data: DataWriter<'a>,
    tree: &'a Tree,
    layout: &'a Layout,
    /// Block 0.
    first: Vec<u8>,
}

impl Metadata<'_> {
    fn place(&self, id: InodeId) -> Placement {
        self.layout
            .places
            .get(id.index())
            .copied()
            .unwrap_or_default()
    }

    /// Puts `bytes` at `offset`: in block 0, or behind everything written so far.
    fn emit(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(there) = self.first.get_mut(start..start.saturating_add(bytes.len())) {
            there.copy_from_slice(bytes);
            return Ok(());
        }
        let gap = offset.saturating_sub(self.data.position());
        self.data.zeros(gap)?;
        self.data.push(bytes)
    }

    /// Data of directories and links: whole blocks first, then what may follow the inode.
    fn contents(&self, id: InodeId, inode: &Inode) -> Vec<u8> {
        let mut bytes = Bytes::default();
        match &inode.content {
            Content::Symlink(target) => drop(bytes.bytes(target)),
            Content::Directory(_) => {
                let names = layout::names(self.tree, id);
                let mut entries = names.iter().map(|(name, id)| Dirent {
                    name,
                    nid: self.place(*id).offset / SLOT,
                    kind: self
                        .tree
                        .inode(*id)
                        .map_or(0, |inode| kind(&inode.content).1),
                });
                let lengths = names.iter().map(|(name, _)| name.len());
                for (count, _) in encode::directory_blocks(lengths) {
                    bytes.align(BLOCK_SIZE);
                    let block: Vec<_> = entries.by_ref().take(count as usize).collect();
                    encode::directory_block(&block, &mut bytes);
                }
            }
            _ => {}
        }
        bytes.0
    }

    /// Bytes of [`Self::contents`] that go into blocks of their own.
    fn split(&self, id: InodeId, contents: &[u8]) -> usize {
        match self.place(id).layout {
            FLAT_PLAIN => contents.len(),
            _ => contents.len() - contents.len() % BLOCK_SIZE,
        }
    }

    /// Writes the blocks of large directories and long links.
    fn blocks(&mut self) -> Result<(), WriteError> {
        for id in &self.layout.order {
            let Some(inode) = self.tree.inode(*id) else {
                continue;
            };
            if !matches!(inode.content, Content::Directory(_) | Content::Symlink(_)) {
                continue;
            }
            let contents = self.contents(*id, inode);
            let (blocks, _) = contents.split_at(self.split(*id, &contents));
            self.data.push(blocks)?;
            self.data.align()?;
        }
        Ok(())
    }

    fn inode(&mut self, id: InodeId, inode: &Inode, serial: u32) -> Result<(), WriteError> {
        let place = self.place(id);
        let attributes = &inode.attributes;
        let device =
            |major, minor| encode::device(major, minor).ok_or(WriteError::Device { major, minor });
        let union = match &inode.content {
            Content::CharDevice { major, minor } | Content::BlockDevice { major, minor } => {
                device(*major, *minor)?
            }
            Content::Directory(_) | Content::Symlink(_) => place.block,
            Content::File(FileData {
                place: Place::Dense { block },
                ..
            }) => *block,
            Content::File(FileData {
                place: Place::Chunked { bits, .. },
                ..
            }) => u32::from(*bits),
            Content::Fifo | Content::Free => 0,
        };
        let mut bytes = Bytes::default();
        RawInode {
            extended: place.extended,
            layout: place.layout,
            mode: attributes.mode | kind(&inode.content).0,
            uid: attributes.uid,
            gid: attributes.gid,
            size: layout::size(self.tree, id, inode),
            links: layout::links(self.tree, id, inode),
            mtime: attributes.mtime,
            union,
            serial,
            xattr_bytes: encode::xattr_length(&attributes.xattrs),
        }
        .encode(&mut bytes);
        encode::xattrs(&attributes.xattrs, &mut bytes);
        match &inode.content {
            Content::File(data) => chunk_map(data, &mut bytes),
            _ => {
                let contents = self.contents(id, inode);
                let (_, tail) = contents.split_at(self.split(id, &contents));
                bytes.bytes(tail);
            }
        }
        self.emit(place.offset, &bytes.0)
    }
}

/// The block of each chunk.
fn chunk_map(data: &FileData, bytes: &mut Bytes) {
    let Place::Chunked { bits, runs } = &data.place else {
        return;
    };
    let mut next = 0;
    for run in runs {
        for _ in next..run.chunk {
            bytes.u32(HOLE);
        }
        for chunk in 0..run.chunks {
            // Block numbers were checked when the run was written.
            let block = u64::from(run.block) + (chunk << bits);
            bytes.u32(u32::try_from(block).unwrap_or(HOLE));
        }
        next = run.chunk + run.chunks;
    }
    for _ in next..data.size.div_ceil(BLOCK << bits) {
        bytes.u32(HOLE);
    }
}

/// `S_IFMT` bits and `FT_*` number.
fn kind(content: &Content) -> (u16, u8) {
    match content {
        Content::File(_) => (0o100_000, 1),
        Content::Directory(_) => (0o040_000, 2),
        Content::CharDevice { .. } => (0o020_000, 3),
        Content::BlockDevice { .. } => (0o060_000, 4),
        Content::Fifo => (0o010_000, 5),
        Content::Symlink(_) => (0o120_000, 7),
        Content::Free => (0, 0),
    }
}

//! The file system of an image as a tree in memory: what the layers say, applied one after the other.
//!
//! No name here ever becomes a path of the host. Symbolic links are followed inside the tree only,
//! `..` ends at its root. Knows nothing of tar or EROFS.

mod error;
mod remove;
mod resolve;

use std::collections::BTreeMap;

pub use error::TreeError;

use crate::Limits;
use crate::erofs::FileData;
use crate::tar::Time;

/// Deepest directory that is made.
const MAX_DEPTH: u16 = 2048;
/// Longest name Linux allows, in bytes.
pub(crate) const MAX_NAME: usize = 255;
/// Rough memory of an inode and its name beside the bytes counted one by one.
const ENTRY_COST: u64 = 64;

/// Place of an inode in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InodeId(u32);

impl InodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Owner, permissions, times and extended attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an inode holds.
#[derive(Debug)]
pub(crate) enum Content {
    File(FileData),
    Directory(Directory),
    Symlink(Box<[u8]>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// No inode: the place is free.
    Free,
}

#[derive(Debug)]
pub(crate) struct Directory {
    parent: InodeId,
    depth: u16,
    children: BTreeMap<Box<[u8]>, Child>,
}

#[derive(Debug, Clone, Copy)]
struct Child {
    inode: InodeId,
    /// Last layer that named it.
    layer: u16,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    pub(crate) content: Content,
    /// Names it has; a directory has one.
    pub(crate) links: u32,
}

/// The tree. Always has a root directory.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    free: Vec<InodeId>,
    /// Data of files that no longer have a name.
    dropped: Vec<FileData>,
    layer: u16,
    names: usize,
    metadata: u64,
    /// Names looked up and looked at so far.
    steps: u64,
    limits: Limits,
}

impl Tree {
    pub(crate) fn new(limits: Limits) -> Self {
        let root = Inode {
            attributes: Attributes {
                mode: 0o755,
                ..Attributes::default()
            },
            content: Content::Directory(Directory {
                parent: InodeId::ROOT,
                depth: 0,
                children: BTreeMap::new(),
            }),
            links: 1,
        };
        Self {
            inodes: vec![root],
            free: Vec::new(),
            dropped: Vec::new(),
            layer: 0,
            names: 0,
            metadata: 0,
            steps: 0,
            limits,
        }
    }

    /// What follows belongs to the next layer.
    pub(crate) fn next_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
    }

    pub(crate) fn inode(&self, id: InodeId) -> Option<&Inode> {
        self.inodes.get(id.index())
    }

    /// Places for inodes, free ones included: every [`InodeId::index`] is below this.
    pub(crate) fn places(&self) -> usize {
        self.inodes.len()
    }

    /// The names in a directory in byte order; nothing for anything else.
    pub(crate) fn children(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let directory = match self.inode(id).map(|inode| &inode.content) {
            Some(Content::Directory(directory)) => Some(directory),
            _ => None,
        };
        let children = directory
            .into_iter()
            .flat_map(|directory| &directory.children);
        children.map(|(name, child)| (&**name, child.inode))
    }

    /// The directory `id` lies in; the root's is the root.
    pub(crate) fn parent(&self, id: InodeId) -> InodeId {
        self.directory(id)
            .map_or(InodeId::ROOT, |directory| directory.parent)
    }

    /// Data of files whose last name has gone since the last call.
    pub(crate) fn take_dropped(&mut self) -> Vec<FileData> {
        std::mem::take(&mut self.dropped)
    }

    /// Puts a directory, or gives the one that is there new attributes.
    pub(crate) fn put_directory(
        &mut self,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), TreeError> {
        let Some((parent, name)) = self.place(path)? else {
            return self.set_attributes(InodeId::ROOT, attributes);
        };
        match self.child(parent, name) {
            Some(there) if self.directory(there.inode).is_some() => {
                self.touch(parent, name);
                self.set_attributes(there.inode, attributes)
            }
            there => {
                if there.is_some() {
                    self.remove(parent, name);
                }
                self.make_directory(parent, name, attributes, path)
                    .map(drop)
            }
        }
    }

    /// Puts anything but a directory in place of what was there.
    pub(crate) fn put(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> Result<(), TreeError> {
        let (parent, name) = self.place(path)?.ok_or(TreeError::Root)?;
        self.remove(parent, name);
        let inode = self.add(Inode {
            attributes,
            content,
            links: 0,
        })?;
        self.name(parent, name, inode)
    }

    /// Gives the file at `target` another name.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let missing = || TreeError::NoTarget {
            path: shown(path),
            target: shown(target),
        };
        let source = self.find(target)?.ok_or_else(missing)?;
        if self.directory(source).is_some() {
            return Err(TreeError::DirectoryTarget {
                path: shown(path),
                target: shown(target),
            });
        }
        let (parent, name) = self.place(path)?.ok_or(TreeError::Root)?;
        if self
            .child(parent, name)
            .is_some_and(|child| child.inode == source)
        {
            self.touch(parent, name);
            return Ok(());
        }
        // Making room may have removed the target itself: it lay below the new name.
        self.hold(source, 1);
        self.remove(parent, name);
        let named = self.name(parent, name, source);
        self.release(source);
        named
    }

    fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inode(id)?.content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inodes.get_mut(id.index())?.content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn child(&self, parent: InodeId, name: &[u8]) -> Option<Child> {
        self.directory(parent)?.children.get(name).copied()
    }

    /// Marks a name as one of this layer.
    fn touch(&mut self, parent: InodeId, name: &[u8]) {
        let layer = self.layer;
        if let Some(directory) = self.directory_mut(parent)
            && let Some(child) = directory.children.get_mut(name)
        {
            child.layer = layer;
        }
    }

    fn set_attributes(&mut self, id: InodeId, attributes: Attributes) -> Result<(), TreeError> {
        let bytes = xattr_bytes(&attributes);
        let Some(inode) = self.inodes.get_mut(id.index()) else {
            return Ok(());
        };
        let before = xattr_bytes(&std::mem::replace(&mut inode.attributes, attributes));
        self.metadata = self.metadata.saturating_sub(before);
        self.account(bytes)
    }

    /// One step of a search. Honest layers need some for each of their entries; links that lead through
    /// long paths and whiteouts in crowded directories could ask for any number.
    fn work(&mut self) -> Result<(), TreeError> {
        self.steps += 1;
        match self.steps > self.limits.steps {
            true => Err(TreeError::TooLong(self.limits.steps)),
            false => Ok(()),
        }
    }

    fn account(&mut self, bytes: u64) -> Result<(), TreeError> {
        self.metadata = self.metadata.saturating_add(bytes);
        match self.metadata > self.limits.metadata {
            true => Err(TreeError::TooMuch(self.limits.metadata)),
            false => Ok(()),
        }
    }

    fn make_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
        path: &[u8],
    ) -> Result<InodeId, TreeError> {
        let depth = self
            .directory(parent)
            .map_or(0, |directory| directory.depth)
            + 1;
        if depth > MAX_DEPTH {
            return Err(TreeError::Depth(shown(path)));
        }
        let directory = Directory {
            parent,
            depth,
            children: BTreeMap::new(),
        };
        let content = Content::Directory(directory);
        let inode = self.add(Inode {
            attributes,
            content,
            links: 0,
        })?;
        self.name(parent, name, inode)?;
        Ok(inode)
    }

    fn add(&mut self, inode: Inode) -> Result<InodeId, TreeError> {
        self.account(inode_bytes(&inode))?;
        if let Some(id) = self.free.pop()
            && let Some(place) = self.inodes.get_mut(id.index())
        {
            *place = inode;
            return Ok(id);
        }
        let too_many = TreeError::TooMany(self.limits.entries);
        if self.inodes.len() > self.limits.entries {
            return Err(too_many);
        }
        let id = InodeId(u32::try_from(self.inodes.len()).map_err(|_| too_many)?);
        self.inodes.push(inode);
        Ok(id)
    }

    fn name(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<(), TreeError> {
        if self.names >= self.limits.entries {
            return Err(TreeError::TooMany(self.limits.entries));
        }
        self.names += 1;
        self.account(name.len() as u64 + ENTRY_COST)?;
        self.hold(inode, 1);
        let child = Child {
            inode,
            layer: self.layer,
        };
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.insert(name.into(), child);
        }
        Ok(())
    }

    fn hold(&mut self, id: InodeId, count: u32) {
        if let Some(inode) = self.inodes.get_mut(id.index()) {
            inode.links = inode.links.saturating_add(count);
        }
    }
}

fn xattr_bytes(attributes: &Attributes) -> u64 {
    attributes
        .xattrs
        .iter()
        .map(|(name, value)| (name.len() + value.len() + 48) as u64)
        .sum()
}

fn inode_bytes(inode: &Inode) -> u64 {
    let content = match &inode.content {
        Content::Symlink(target) => target.len() as u64,
        Content::File(data) => data.map_bytes(),
        _ => 0,
    };
    ENTRY_COST + xattr_bytes(&inode.attributes) + content
}

/// A name as error texts show it: bounded, and readable whatever its bytes are.
pub(crate) fn shown(path: &[u8]) -> String {
    let start = path.get(..200).unwrap_or(path);
    let mut text = String::from_utf8_lossy(start).into_owned();
    if path.len() > start.len() {
        text.push('…');
    }
    text
}

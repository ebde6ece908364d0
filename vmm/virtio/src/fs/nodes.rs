//! The files and directories that the guest knows: what its numbers stand for. Refuses to know requests.
//!
//! A node is a descriptor that was opened for nothing (`O_PATH`), which holds on to the inode whatever becomes of its names. There
//! are fewer descriptors than nodes: the oldest are closed, and opened again from the parent's when they are needed. Then the
//! inode must still be the same.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::Share;
use super::abi::ROOT;

/// The deepest directory that is found again.
const DEEPEST: usize = 4096;

/// How every single name is looked up: not above its directory, and through no link.
pub(super) const STAY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// What makes an inode the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) share: u16,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Key {
    pub(super) fn new(share: u16, stat: &Stat) -> Self {
        Self {
            share,
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// A file or directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: Key,
    pub(super) kind: FileType,
    /// Where it was seen last.
    pub(super) parent: u64,
    pub(super) name: CString,
    /// How often the guest was told of it and has not forgotten it.
    pub(super) count: u64,
    /// When it was opened last, the file's time of change and its length.
    pub(super) seen: (i64, i64, i64),
    descriptor: Option<Arc<OwnedFd>>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) shares: Vec<(Arc<OwnedFd>, bool)>,
    known: HashMap<u64, Node>,
    numbers: HashMap<Key, u64>,
    /// Those that may have a descriptor, the oldest first.
    open: VecDeque<u64>,
    next: u64,
    most: usize,
    most_open: usize,
}

impl Nodes {
    pub(super) fn new(shares: Vec<Share>, most: usize, most_open: usize) -> Self {
        Self {
            shares: shares
                .into_iter()
                .map(|share| (Arc::new(share.root), share.read_only))
                .collect(),
            known: HashMap::new(),
            numbers: HashMap::new(),
            open: VecDeque::new(),
            next: ROOT.wrapping_add(1),
            most,
            most_open: most_open.max(1),
        }
    }

    pub(super) fn get(&self, number: u64) -> Result<&Node, Errno> {
        self.known.get(&number).ok_or(Errno::STALE)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.known.get_mut(&number).ok_or(Errno::STALE)
    }

    /// The node's own descriptor, which neither reads nor writes.
    pub(super) fn descriptor(&mut self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(descriptor) = &self.get(number)?.descriptor {
            return Ok(Arc::clone(descriptor));
        }
        self.find_again(number)
    }

    /// A directory's, in which something is to be changed.
    pub(super) fn changeable(&mut self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        self.may_change(number)?;
        self.descriptor(number)
    }

    /// Whether something may be changed through this node.
    pub(super) fn may_change(&self, number: u64) -> Result<(), Errno> {
        if number == ROOT {
            return Err(Errno::PERM);
        }
        let share = usize::from(self.get(number)?.key.share);
        match self.shares.get(share) {
            Some((_, false)) => Ok(()),
            Some((_, true)) => Err(Errno::ROFS),
            None => Err(Errno::STALE),
        }
    }

    /// Looks at the entry `name` of `parent`: its descriptor, what it is, and in which share.
    pub(super) fn look(
        &mut self,
        parent: u64,
        name: &CStr,
    ) -> Result<(Arc<OwnedFd>, Stat, u16), Errno> {
        let (descriptor, share) = if parent == ROOT {
            let share: u16 = (name.to_str().ok())
                .and_then(|name| name.parse().ok())
                .ok_or(Errno::NOENT)?;
            let (root, _) = self.shares.get(usize::from(share)).ok_or(Errno::NOENT)?;
            (Arc::clone(root), share)
        } else {
            let node = self.get(parent)?;
            if node.kind != FileType::Directory {
                return Err(Errno::NOTDIR);
            }
            let share = node.key.share;
            let directory = self.descriptor(parent)?;
            (Arc::new(open_entry(directory.as_fd(), name)?), share)
        };
        let stat = fstat(&descriptor)?;
        Ok((descriptor, stat, share))
    }

    /// Tells the guest of what [`look`](Self::look) saw, once more or for the first time: the node's number.
    pub(super) fn remember(
        &mut self,
        parent: u64,
        name: &CStr,
        descriptor: Arc<OwnedFd>,
        stat: &Stat,
        share: u16,
    ) -> Result<u64, Errno> {
        let (key, kind) = (Key::new(share, stat), FileType::from_raw_mode(stat.st_mode));
        if let Some(&number) = self.numbers.get(&key)
            && let Some(node) = self.known.get_mut(&number)
            // Without a descriptor the inode's number may have gone to another file meanwhile.
            && (node.descriptor.is_some() || node.kind == kind)
        {
            node.count = node.count.saturating_add(1);
            if node.parent != parent || node.name.as_c_str() != name {
                (node.parent, node.name) = (parent, name.to_owned());
            }
            if node.descriptor.is_none() {
                node.descriptor = Some(descriptor);
                self.opened(number);
            }
            return Ok(number);
        }
        if self.known.len() >= self.most {
            return Err(Errno::NFILE);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let node = Node {
            key,
            kind,
            parent,
            name: name.to_owned(),
            count: 1,
            seen: (0, 0, -1),
            descriptor: Some(descriptor),
        };
        self.known.insert(number, node);
        self.numbers.insert(key, number);
        self.opened(number);
        Ok(number)
    }

    /// The guest forgets a node `count` times.
    pub(super) fn forget(&mut self, number: u64, count: u64) {
        let Some(node) = self.known.get_mut(&number) else {
            return;
        };
        node.count = node.count.saturating_sub(count);
        if node.count == 0
            && let Some(node) = self.known.remove(&number)
            && self.numbers.get(&node.key) == Some(&number)
        {
            self.numbers.remove(&node.key);
        }
    }

    /// The inode of this key is called `name` in `parent` from now on.
    pub(super) fn moved(&mut self, key: Key, parent: u64, name: &CStr) {
        if let Some(number) = self.numbers.get(&key)
            && let Some(node) = self.known.get_mut(number)
        {
            (node.parent, node.name) = (parent, name.to_owned());
        }
    }

    /// Gives a node that has lost its name the descriptor that was made from an open file of it.
    pub(super) fn give(&mut self, number: u64, descriptor: Arc<OwnedFd>) -> Result<(), Errno> {
        let stat = fstat(&descriptor)?;
        let node = self.get_mut(number)?;
        if Key::new(node.key.share, &stat) != node.key {
            return Err(Errno::STALE);
        }
        node.descriptor = Some(descriptor);
        self.opened(number);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.numbers.clear();
        self.open.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.known.iter().map(|(number, node)| (*number, node))
    }

    /// Puts back a node that was saved; it is looked for when it is needed.
    pub(super) fn restore(&mut self, number: u64, node: Node) -> Result<(), Errno> {
        let shares = self.shares.len();
        if number <= ROOT || usize::from(node.key.share) >= shares || self.known.len() >= self.most
        {
            return Err(Errno::INVAL);
        }
        self.next = self.next.max(number.wrapping_add(1)).max(2);
        self.numbers.insert(node.key, number);
        self.known.insert(number, node);
        Ok(())
    }

    /// Opens a node whose descriptor was closed, by the way from the last ancestor that has one.
    fn find_again(&mut self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        let mut way = Vec::new();
        let mut at = number;
        let mut descriptor = loop {
            let node = self.get(at)?;
            if let Some(descriptor) = &node.descriptor {
                break Arc::clone(descriptor);
            }
            if way.len() >= DEEPEST {
                return Err(Errno::STALE);
            }
            way.push(at);
            if node.parent == ROOT {
                let share = self.shares.get(usize::from(node.key.share));
                break Arc::clone(&share.ok_or(Errno::STALE)?.0);
            }
            at = node.parent;
        };
        for &number in way.iter().rev() {
            let node = self.get(number)?;
            if node.parent != ROOT {
                let opened = open_entry(descriptor.as_fd(), &node.name);
                descriptor = Arc::new(opened.map_err(|_| Errno::STALE)?);
            }
            let stat = fstat(&descriptor)?;
            if Key::new(node.key.share, &stat) != node.key
                || FileType::from_raw_mode(stat.st_mode) != node.kind
            {
                return Err(Errno::STALE);
            }
            self.get_mut(number)?.descriptor = Some(Arc::clone(&descriptor));
            self.opened(number);
        }
        Ok(descriptor)
    }

    /// A node got its descriptor; the oldest may have to go for it.
    fn opened(&mut self, number: u64) {
        self.open.push_back(number);
        while self.open.len() > self.most_open
            && let Some(oldest) = self.open.pop_front()
        {
            if let Some(node) = self.known.get_mut(&oldest) {
                node.descriptor = None;
            }
        }
    }
}

/// A node that is not open.
pub(super) fn closed(key: Key, kind: FileType, parent: u64, name: CString, count: u64) -> Node {
    Node {
        key,
        kind,
        parent,
        name,
        count,
        seen: (0, 0, -1),
        descriptor: None,
    }
}

fn open_entry(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    again(|| openat2(directory, name, flags, Mode::empty(), STAY))
}

/// Repeats what a rename elsewhere on the host got in the way of, or a signal.
pub(super) fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    const TRIES: u32 = 16;
    for _ in 0..TRIES {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    call()
}

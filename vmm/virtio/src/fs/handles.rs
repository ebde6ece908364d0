//! What the guest has open. Refuses to know nodes.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

/// An open file or directory.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) file: Arc<OwnedFd>,
    /// Of which node.
    pub(super) node: u64,
    /// With these of `open(2)`'s flags.
    pub(super) flags: u32,
    pub(super) directory: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Handles {
    open: BTreeMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(super) fn new(most: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            next: 1,
            most,
        }
    }

    /// Fails before anything is opened that could not be kept.
    pub(super) fn has_room(&self) -> Result<(), Errno> {
        match self.open.len() < self.most {
            true => Ok(()),
            false => Err(Errno::NFILE),
        }
    }

    /// Keeps an open file, and gives the number by which the guest knows it.
    pub(super) fn add(&mut self, handle: Handle) -> Result<u64, Errno> {
        self.has_room()?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, handle);
        Ok(number)
    }

    /// Puts back what was saved.
    pub(super) fn restore(&mut self, number: u64, handle: Handle) -> Result<(), Errno> {
        self.has_room()?;
        self.next = self.next.max(number.wrapping_add(1));
        self.open.insert(number, handle);
        Ok(())
    }

    /// An open file of this node.
    pub(super) fn file(&self, number: u64, node: u64) -> Result<&Handle, Errno> {
        let handle = self.open.get(&number).ok_or(Errno::BADF)?;
        match handle.node == node && !handle.directory {
            true => Ok(handle),
            false => Err(Errno::BADF),
        }
    }

    /// An open directory.
    pub(super) fn directory(&self, number: u64, node: u64) -> Result<&Handle, Errno> {
        let handle = self.open.get(&number).ok_or(Errno::BADF)?;
        match handle.node == node && handle.directory {
            true => Ok(handle),
            false => Err(Errno::BADF),
        }
    }

    /// Any one of this node.
    pub(super) fn of_node(&self, node: u64) -> Option<&Handle> {
        self.open.values().find(|handle| handle.node == node)
    }

    pub(super) fn remove(&mut self, number: u64) -> Result<(), Errno> {
        self.open.remove(&number).map(drop).ok_or(Errno::BADF)
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Handle)> {
        self.open.iter().map(|(number, handle)| (*number, handle))
    }
}

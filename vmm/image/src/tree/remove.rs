//! Taking things out of the tree: whiteouts, opaque directories, replaced files.

use super::{Attributes, Content, ENTRY_COST, InodeId, Tree, TreeError, inode_bytes, resolve};

impl Tree {
    /// Removes what lower layers have at `path`; this layer's own entries stay.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let (directory, name) = resolve::split(path)?.ok_or(TreeError::Root)?;
        if let Some(parent) = self.find_directory(directory)? {
            self.hide(parent, name)?;
        }
        Ok(())
    }

    /// Removes what lower layers have in the directory at `path`.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<(), TreeError> {
        if let Some(directory) = self.find_directory(path)? {
            for name in self.names_of(directory) {
                self.hide(directory, &name)?;
            }
        }
        Ok(())
    }

    fn names_of(&self, id: InodeId) -> Vec<Box<[u8]>> {
        self.directory(id)
            .map(|d| d.children.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Removes `name` where it is of a lower layer; below a directory of this layer, looks further.
    fn hide(&mut self, parent: InodeId, name: &[u8]) -> Result<(), TreeError> {
        let mut pending = vec![(parent, Box::<[u8]>::from(name))];
        while let Some((parent, name)) = pending.pop() {
            self.work()?;
            match self.child(parent, &name) {
                Some(child) if child.layer < self.layer => self.remove(parent, &name),
                Some(child) => {
                    let names = self.names_of(child.inode);
                    pending.extend(names.into_iter().map(|name| (child.inode, name)));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Removes a name and everything below it.
    pub(super) fn remove(&mut self, parent: InodeId, name: &[u8]) {
        let Some(directory) = self.directory_mut(parent) else {
            return;
        };
        let Some((name, child)) = directory.children.remove_entry(name) else {
            return;
        };
        let mut pending = vec![(name, child)];
        while let Some((name, child)) = pending.pop() {
            self.names -= 1;
            self.metadata = self.metadata.saturating_sub(name.len() as u64 + ENTRY_COST);
            if let Some(Content::Directory(directory)) = self.release(child.inode) {
                pending.extend(directory.children);
            }
        }
    }

    /// Takes one name from an inode; what it held when that was the last.
    pub(super) fn release(&mut self, id: InodeId) -> Option<Content> {
        let inode = self.inodes.get_mut(id.index())?;
        inode.links = inode.links.saturating_sub(1);
        if inode.links > 0 {
            return None;
        }
        self.metadata = self.metadata.saturating_sub(inode_bytes(inode));
        inode.attributes = Attributes::default();
        let content = std::mem::replace(&mut inode.content, Content::Free);
        self.free.push(id);
        match content {
            Content::File(data) => {
                self.dropped.push(data);
                None
            }
            content => Some(content),
        }
    }
}

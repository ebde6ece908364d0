//! What a snapshot says of the device: what the guest knows and has open, by name. Refuses to carry descriptors: a name is looked up
//! again where the snapshot goes on, and must lead to the same inode.

use std::ffi::CString;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::handles::Handle;
use super::nodes::{Key, closed};
use super::server::Server;
use crate::StateError;

/// All of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FsState {
    nodes: Vec<SavedNode>,
    handles: Vec<SavedHandle>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedNode {
    number: u64,
    share: u16,
    device: u64,
    inode: u64,
    /// The type's bits of its mode.
    kind: u32,
    parent: u64,
    name: CString,
    count: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct SavedHandle {
    number: u64,
    node: u64,
    flags: u32,
    directory: bool,
}

impl Server {
    pub(super) fn save(&self) -> FsState {
        let nodes = self.nodes.iter().map(|(number, node)| SavedNode {
            number,
            share: node.key.share,
            device: node.key.device,
            inode: node.key.inode,
            kind: node.kind.as_raw_mode(),
            parent: node.parent,
            name: node.name.clone(),
            count: node.count,
        });
        let handles = self.handles.iter().map(|(number, handle)| SavedHandle {
            number,
            node: handle.node,
            flags: handle.flags,
            directory: handle.directory,
        });
        FsState {
            nodes: nodes.collect(),
            handles: handles.chain(self.saved.iter().copied()).collect(),
        }
    }

    /// Files are opened by whoever serves the device, who alone may have the rights for that.
    pub(super) fn restore(&mut self, state: FsState) -> Result<(), StateError> {
        self.reset();
        let impossible = |what| move |_: Errno| StateError::Impossible(what);
        for saved in state.nodes {
            let key = Key {
                share: saved.share,
                device: saved.device,
                inode: saved.inode,
            };
            let mut name = super::abi::Fields(saved.name.as_bytes_with_nul());
            if !saved.name.is_empty() {
                name.name().map_err(impossible("name"))?;
            }
            let kind = FileType::from_raw_mode(saved.kind);
            let node = closed(key, kind, saved.parent, saved.name, saved.count);
            let restored = self.nodes.restore(saved.number, node);
            restored.map_err(impossible("file"))?;
        }
        self.saved = state.handles;
        Ok(())
    }

    /// Opens what was open when the device was saved. What is not there any more is stale to the guest.
    pub(super) fn open_saved(&mut self) {
        for saved in std::mem::take(&mut self.saved) {
            let Ok(file) = self.open_again(&saved) else {
                continue;
            };
            let handle = Handle {
                file: Arc::new(file),
                node: saved.node,
                flags: saved.flags,
                directory: saved.directory,
            };
            // There is room for as many as were open; more is a hostile state's.
            if self.handles.restore(saved.number, handle).is_err() {
                break;
            }
        }
    }

    fn open_again(&mut self, saved: &SavedHandle) -> Result<std::os::fd::OwnedFd, Errno> {
        if saved.directory {
            return self.directory_of(saved.node);
        }
        let flags = saved.flags & !(OFlags::TRUNC | OFlags::EXCL | OFlags::CREATE).bits();
        self.file_of(saved.node, flags)
    }
}

//! The file system device (virtio 1.2 §5.11): directories and files of the host, through FUSE. Refuses to know paths: every share
//! came as a descriptor, and everything in it is reached from there, one name at a time.
//!
//! File operations block, so a machine serves this device in a thread of its own (`BLOCKS`). There is one request queue: one
//! operation at a time.

mod abi;
mod attributes;
mod data;
mod entries;
mod handles;
mod nodes;
mod server;
mod state;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::device::{Io, Served, VirtioDevice};
use crate::{DeviceError, StateError};

use self::server::Server;
pub use self::state::FsState;

/// Bytes of the configuration's field for the tag.
const TAG: usize = 36;

/// A directory or a file that the guest sees as an entry, named by its number, of the device's root.
#[derive(Debug)]
pub struct Share {
    /// It, opened in any way, `O_PATH` included.
    pub root: OwnedFd,
    /// Nothing in it can be changed through the device.
    pub read_only: bool,
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The numbers of users and groups are the same in guest and host. Needs the rights to give files away.
    Same,
    /// What belongs to this process's user is root's in the guest; everything else is nobody's.
    Own,
}

/// The way to what is open already: links named by the numbers of this process's descriptors.
#[derive(Debug)]
pub struct Descriptors {
    /// `/proc/self/fd`
    pub directory: Arc<OwnedFd>,
    /// What stands before a number in a path that leads there: nothing where it is the working directory.
    pub prefix: &'static str,
}

/// What the device may take of its process.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open descriptors.
    pub descriptors: usize,
    /// Files and directories that the guest knows at a time.
    pub nodes: usize,
}

/// The device.
#[derive(Debug)]
pub struct Fs {
    tag: [u8; TAG],
    server: Server,
}

impl Fs {
    /// Offers `shares` under `tag`, of which the first 36 bytes count.
    pub fn new(
        tag: &str,
        shares: Vec<Share>,
        owners: Owners,
        descriptors: Descriptors,
        bounds: Bounds,
    ) -> Self {
        let mut field = [0; TAG];
        for (to, from) in field.iter_mut().zip(tag.bytes()) {
            *to = from;
        }
        Self {
            tag: field,
            server: Server::new(shares, owners, descriptors, bounds),
        }
    }
}

impl VirtioDevice for Fs {
    const ID: u32 = 26;
    const NAME: &'static str = "fs";
    const KERNEL: &'static str = "CONFIG_VIRTIO_FS";
    /// What need not wait (`FORGET`), and requests. The kernel sends as many pages at once as the queue is long, less four.
    const QUEUES: &'static [u16] = &[64, 512];
    const BLOCKS: bool = true;
    type State = FsState;

    fn config(&self) -> impl AsRef<[u8]> {
        let mut config = [0; TAG + 4];
        let one = 1_u32.to_le_bytes();
        for (to, from) in config.iter_mut().zip(self.tag.iter().chain(&one)) {
            *to = *from;
        }
        config
    }

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        self.server.open_saved();
        io.serve(queue, |chain| Ok(Served::Done(self.server.answer(chain))))
    }

    fn reset(&mut self) {
        self.server.reset();
    }

    fn save(&self) -> FsState {
        self.server.save()
    }

    fn restore(&mut self, state: FsState) -> Result<(), StateError> {
        self.server.restore(state)
    }
}

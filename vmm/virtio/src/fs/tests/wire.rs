//! Raw FUSE, spoken by hand.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};
use tempfile::TempDir;

use crate::fs::abi::opcode;
use crate::fs::{Bounds, Descriptors, Fs, Owners, Share};
use crate::guest::Guest;

pub(super) const REQUESTS: usize = 1;

/// A directory of the host, one entry of which is shared; beside it lies what the guest may not reach.
pub(super) struct Files {
    directory: TempDir,
    pub(super) bounds: Bounds,
}

impl Files {
    pub(super) fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("share")).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        Self {
            directory,
            bounds: Bounds {
                descriptors: 64,
                nodes: 128,
            },
        }
    }

    /// A path in the share, on the host.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("share").join(name)
    }

    pub(super) fn outside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn fs(&self, read_only: bool) -> Fs {
        let root = path_only(&self.path("."));
        self.fs_of(vec![Share { root, read_only }])
    }

    pub(super) fn fs_of(&self, shares: Vec<Share>) -> Fs {
        self.fs_for(Owners::Own, shares)
    }

    pub(super) fn fs_with(&self, owners: Owners, read_only: bool) -> Fs {
        let root = path_only(&self.path("."));
        self.fs_for(owners, vec![Share { root, read_only }])
    }

    fn fs_for(&self, owners: Owners, shares: Vec<Share>) -> Fs {
        let directory = Arc::new(path_only("/proc/self/fd".as_ref()));
        let prefix = "/proc/self/fd/";
        let descriptors = Descriptors { directory, prefix };
        Fs::new("tag", shares, owners, descriptors, self.bounds)
    }

    pub(super) fn guest(&self, read_only: bool) -> Guest {
        started(self.fs(read_only))
    }
}

pub(super) fn started(device: Fs) -> Guest {
    let mut guest = Guest::new(device);
    guest.start();
    guest
}

pub(super) fn path_only(path: &std::path::Path) -> OwnedFd {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A request and its answer without the header, or the error's number.
pub(super) fn request(
    guest: &mut Guest,
    opcode: u32,
    node: u64,
    parts: &[&[u8]],
    room: usize,
) -> Result<Vec<u8>, i32> {
    raw(guest, &header(opcode, node, 0), parts, room)
}

pub(super) fn header(opcode: u32, node: u64, length: u32) -> Vec<u8> {
    [
        &length.to_le_bytes()[..],
        &opcode.to_le_bytes(),
        &77_u64.to_le_bytes(),
        &node.to_le_bytes(),
        &[0; 16],
    ]
    .concat()
}

pub(super) fn raw(
    guest: &mut Guest,
    header: &[u8],
    parts: &[&[u8]],
    room: usize,
) -> Result<Vec<u8>, i32> {
    let all: Vec<&[u8]> = [header].into_iter().chain(parts.iter().copied()).collect();
    let answer = guest.exchange(REQUESTS, &all, &[16, room]);
    assert!(!guest.is_broken());
    let bytes = &answer.bytes[..answer.length as usize];
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(length, answer.length);
    assert_eq!(bytes[8..16], 77_u64.to_le_bytes());
    match i32::from_le_bytes(bytes[4..8].try_into().unwrap()) {
        0 => Ok(bytes[16..].to_vec()),
        error => {
            assert_eq!(bytes.len(), 16);
            Err(-error)
        }
    }
}

/// What `LOOKUP` and its like answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) node: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) links: u32,
}

pub(super) fn entry(bytes: &[u8]) -> Entry {
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    Entry {
        node: long(0),
        inode: long(40),
        size: long(48),
        mode: word(100),
        links: word(104),
    }
}

pub(super) fn text(name: &str) -> Vec<u8> {
    CString::new(name).unwrap().into_bytes_with_nul()
}

pub(super) fn lookup(guest: &mut Guest, parent: u64, name: &str) -> Result<Entry, i32> {
    let answer = request(guest, opcode::LOOKUP, parent, &[&text(name)], 128);
    answer.map(|bytes| entry(&bytes))
}

pub(super) fn open_file(guest: &mut Guest, node: u64, flags: i32) -> Result<Vec<u8>, i32> {
    let flags = u64::try_from(flags).unwrap().to_le_bytes();
    let answer = request(guest, opcode::OPEN, node, &[&flags], 16)?;
    Ok(answer[..8].to_vec())
}

pub(super) fn write_at(
    guest: &mut Guest,
    node: u64,
    handle: &[u8],
    offset: u64,
    bytes: &[u8],
) -> Result<u32, i32> {
    let size = u32::try_from(bytes.len()).unwrap();
    let fields = [handle, &offset.to_le_bytes(), &size.to_le_bytes(), &[0; 20]].concat();
    let answer = request(guest, opcode::WRITE, node, &[&fields, bytes], 8)?;
    Ok(u32::from_le_bytes(answer[..4].try_into().unwrap()))
}

pub(super) fn read_at(
    guest: &mut Guest,
    node: u64,
    handle: &[u8],
    offset: u64,
    size: u32,
) -> Result<Vec<u8>, i32> {
    let fields = [handle, &offset.to_le_bytes(), &size.to_le_bytes(), &[0; 20]].concat();
    request(guest, opcode::READ, node, &[&fields], size as usize)
}

//! Guest memory: a file, and the view of it that guest and devices share. Knows nothing of what is put into it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use vm_memory::GuestMemoryMmap;

use super::layout;
use crate::config::Memory;
use crate::sys::{self, Sharing};

/// A guest's memory.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    size: Memory,
    file: Arc<File>,
    map: Arc<GuestMemoryMmap>,
    sharing: Sharing,
}

impl GuestMemory {
    /// Zeros, not committed: the host gives a page when it is first touched.
    pub(crate) fn new(size: Memory) -> io::Result<Self> {
        let file = memfd_create("guest memory", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size.bytes())?;
        Self::map(size, sys::file(file), Sharing::Shared)
    }

    /// The bytes of `file` (as long as memory is) to begin with; what the guest writes stays in this process. The file must
    /// not change as long as the guest lives.
    pub(crate) fn copy_of(size: Memory, file: OwnedFd) -> io::Result<Self> {
        let length = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        if length != size.bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "A memory file of {length} bytes is not the memory of a machine with {}",
                    size.bytes()
                ),
            ));
        }
        Self::map(size, sys::file(file), Sharing::Copied)
    }

    fn map(size: Memory, file: File, sharing: Sharing) -> io::Result<Self> {
        let map = sys::map_guest_memory(file.as_fd(), &layout::pieces(size), sharing)?;
        Ok(Self {
            size,
            file: Arc::new(file),
            map: Arc::new(map),
            sharing,
        })
    }

    /// How much there is.
    pub(crate) fn size(&self) -> Memory {
        self.size
    }

    /// The view that devices use.
    pub(crate) fn view(&self) -> &Arc<GuestMemoryMmap> {
        &self.map
    }

    /// The file behind it.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Bytes this guest alone occupies, when they are in its own file; those of a copy are not counted there.
    pub(crate) fn touched(&self) -> io::Result<u64> {
        match self.sharing {
            Sharing::Shared => Ok(u64::try_from(fstat(&*self.file)?.st_blocks).unwrap_or(0) * 512),
            Sharing::Copied => Ok(0),
        }
    }
}

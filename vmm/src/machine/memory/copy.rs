//! Memory that leaves its process: written to a file, and made again as a private view of that file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{fstat, ftruncate};
use vm_memory::{Bytes, GuestAddress};

use super::GuestMemory;
use crate::config::Memory;
use crate::machine::layout;
use crate::sparse::{self, next_data};
use crate::sys::{self, Piece};

/// Bytes looked at and written at a time.
const BATCH: usize = 512 * sys::PAGE;

impl GuestMemory {
    /// The bytes of `file` (as long as memory is) to begin with; what the guest writes stays in this process. The file must
    /// not change as long as the guest lives.
    pub(crate) fn copy_of(size: Memory, file: OwnedFd) -> io::Result<Self> {
        let length = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        if length != size.bytes() {
            let text = format!(
                "A file of {length} bytes is no memory of {} bytes",
                size.bytes()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let file = sys::file(file);
        let (pieces, ranges) = (
            layout::pieces(size),
            sparse::ranges(&file, sys::LARGE_PAGE as u64)?,
        );
        let map = sys::map_guest_memory(&pieces, Some(file.as_fd()), &ranges)?;
        Ok(Self {
            size,
            map: Arc::new(map),
            file: Some(file),
        })
    }

    /// Writes the content to an empty file, from which [`GuestMemory::copy_of`] makes the same memory again. Pages of zeros
    /// become holes. The guest stands still.
    pub(crate) fn write_to(&self, file: &File) -> io::Result<()> {
        ftruncate(file, self.size.bytes())?;
        let mut buffer = vec![0; BATCH];
        for batch in self.batches(BATCH) {
            let filled = self.filled(batch)?;
            let mut start = 0;
            for run in filled.chunk_by(|one, next| one == next) {
                let length = run.len() * sys::PAGE;
                if run.first() == Some(&true) {
                    let content = buffer.get_mut(..length).unwrap_or_default();
                    let address = GuestAddress(batch.guest + start);
                    self.map
                        .read_slice(content, address)
                        .map_err(io::Error::other)?;
                    sparse::write_pages(file, content, batch.offset + start)?;
                }
                start += length as u64;
            }
        }
        Ok(())
    }

    /// The file that it is a view of, which is needed to write it down.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// For each page whether it can hold anything but zeros.
    fn filled(&self, batch: Piece) -> io::Result<Vec<bool>> {
        let resident = sys::resident(&self.map, batch.guest, batch.length)?;
        let mut filled: Vec<bool> = resident.iter().map(|page| page & 1 != 0).collect();
        if has_swapped() {
            // Perhaps something of this: it has content, and is not in memory.
            filled.fill(true);
        }
        if let Some(file) = &self.file {
            // What nobody has read yet is in the file alone.
            let end = batch.offset + batch.length as u64;
            let mut at = batch.offset;
            while let Some((data, hole)) = next_data(file, at)?.filter(|(data, _)| *data < end) {
                let page =
                    |offset: u64| usize::try_from(offset - batch.offset).unwrap_or(0) / sys::PAGE;
                let (first, last) = (page(data), page(hole.min(end) + sys::PAGE as u64 - 1));
                filled.get_mut(first..last).unwrap_or_default().fill(true);
                at = hole;
                if at >= end {
                    break;
                }
            }
        }
        Ok(filled)
    }
}

/// Whether the host has put anything out of its memory.
fn has_swapped() -> bool {
    let host = rustix::system::sysinfo();
    host.freeswap < host.totalswap
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;
    use crate::config::VmConfig;

    #[test]
    fn what_a_copy_writes_where_the_file_is_empty_costs_the_file_nothing() {
        let size = VmConfig::default().memory;
        let file = tempfile::tempfile().unwrap();
        file.set_len(size.bytes()).unwrap();
        file.write_all_at(b"here", 3 << 20).unwrap();
        let ranges = sparse::ranges(&file, 2 << 20).unwrap();
        assert_eq!((ranges.len(), &ranges[0]), (1, &(2 << 20..4 << 20)));
        let blocks = file.metadata().unwrap().blocks();
        let copy = GuestMemory::copy_of(size, file.try_clone().unwrap().into()).unwrap();
        let view = copy.view();
        for mebibyte in 16..64 {
            let address = GuestAddress(mebibyte << 20);
            view.write_slice(b"there", address).unwrap();
        }
        let mut there = [0; 4];
        view.read_slice(&mut there, GuestAddress(3 << 20)).unwrap();
        assert_eq!(&there, b"here");
        assert_eq!(file.metadata().unwrap().blocks(), blocks);
    }
}

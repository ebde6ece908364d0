//! Guest memory, and the view of it that guest and devices share. Knows nothing of what is put into it.
//!
//! It is this process's own: zeros to begin with, in large pages where the host has them, or a private view of a file that
//! another machine's memory was written to.

use std::fs::File;
use std::io;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use super::layout;
use crate::config::Memory;
use crate::sys::{self, Piece};

mod copy;
mod pages;

pub(crate) use pages::Pages;

/// Bytes looked at, at a time.
const LARGE_BATCH: usize = 1 << 30;

/// A guest's memory.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    size: Memory,
    map: Arc<GuestMemoryMmap>,
    /// What it is a view of.
    file: Option<File>,
}

impl GuestMemory {
    /// Zeros, not committed: the host gives a page when it is first touched.
    pub(crate) fn new(size: Memory) -> io::Result<Self> {
        let map = Arc::new(sys::map_guest_memory(&layout::pieces(size), None, &[])?);
        Ok(Self {
            size,
            map,
            file: None,
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

    /// Bytes the host holds for this guest; of a copy, the file's pages in the host's memory among them.
    pub(crate) fn touched(&self) -> io::Result<u64> {
        let mut pages = 0;
        for batch in self.batches(LARGE_BATCH) {
            let resident = sys::resident(&self.map, batch.guest, batch.length)?;
            pages += resident.iter().map(|page| u64::from(page & 1)).sum::<u64>();
        }
        Ok(pages * sys::PAGE as u64)
    }

    /// The pieces of memory, cut small.
    fn batches(&self, most: usize) -> impl Iterator<Item = Piece> {
        layout::pieces(self.size)
            .into_iter()
            .flat_map(move |piece| {
                (0..piece.length).step_by(most).map(move |start| Piece {
                    guest: piece.guest + start as u64,
                    offset: piece.offset + start as u64,
                    length: most.min(piece.length - start),
                })
            })
    }
}

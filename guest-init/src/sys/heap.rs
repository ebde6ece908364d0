//! Memory for the allocator of a program with one thread. Knows nothing of what it is for.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory in powers of two, each size with a list of its free pieces; what is large is mapped by itself. Nothing is
/// given back to another size: init's needs are small and the same over and over.
#[derive(Debug)]
pub struct Heap {
    /// First free piece by size: 16 bytes, 32, … up to [`LARGEST`].
    free: [Cell<*mut Piece>; SIZES],
    /// What no piece was cut from yet.
    next: Cell<usize>,
    end: Cell<usize>,
}

/// A free piece holds where the next one is.
#[derive(Debug)]
struct Piece {
    next: *mut Piece,
}

const SMALLEST: usize = 16;
const SIZES: usize = 11;
const LARGEST: usize = SMALLEST << (SIZES - 1);
/// Mapped at a time; only what is touched costs memory.
const CHUNK: usize = 256 << 10;
const PAGE: usize = 4096;

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: init has one thread and no signal handlers; it has the only heap that is shared. (A test's is its own.)
unsafe impl Sync for Heap {}

impl Heap {
    /// Nothing is mapped yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            free: [const { Cell::new(ptr::null_mut()) }; SIZES],
            next: Cell::new(0),
            end: Cell::new(0),
        }
    }

    /// Which list serves a request, `None` where it is mapped by itself.
    fn list(&self, layout: Layout) -> Option<(usize, &Cell<*mut Piece>)> {
        let size = layout
            .size()
            .max(layout.align())
            .max(SMALLEST)
            .next_power_of_two();
        let number = size
            .trailing_zeros()
            .checked_sub(SMALLEST.trailing_zeros())?;
        Some((size, self.free.get(number as usize)?))
    }

    /// A new piece; its size is a power of two, so that it is aligned to its size if the chunk is to the largest.
    fn cut(&self, size: usize) -> *mut u8 {
        let at = self.next.get().next_multiple_of(size);
        if at == 0 || at + size > self.end.get() {
            let chunk = map(CHUNK + LARGEST);
            if chunk.is_null() {
                return chunk;
            }
            let start = chunk.expose_provenance().next_multiple_of(LARGEST);
            self.end.set(start + CHUNK);
            self.next.set(start + size);
            return ptr::with_exposed_provenance_mut(start);
        }
        self.next.set(at + size);
        ptr::with_exposed_provenance_mut(at)
    }
}

fn map(size: usize) -> *mut u8 {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nobody's memory.
    let mapped = unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) };
    mapped.map_or(ptr::null_mut(), <*mut _>::cast)
}

// SAFETY: a piece is handed out once until it comes back: it is taken off its list or cut from memory no piece has. It is
// as large as asked for and aligned to its own size, a power of two no smaller than the alignment.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, list)) = self.list(layout) else {
            return if layout.align() > PAGE {
                ptr::null_mut()
            } else {
                map(layout.size())
            };
        };
        let Some(piece) = NonNull::new(list.get()) else {
            return self.cut(size);
        };
        // SAFETY: a piece on a list is free, so what it holds is the link that was put there.
        list.set(unsafe { piece.as_ref() }.next);
        piece.as_ptr().cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some((_, list)) = self.list(layout) else {
            // SAFETY: it was mapped by itself with this size, and its user is done with it.
            let _ = unsafe { munmap(memory.cast(), layout.size()) };
            return;
        };
        let piece: *mut Piece = memory.cast();
        // SAFETY: its user is done with it, it is at least as large as a link and aligned to 16 bytes.
        unsafe { piece.write(Piece { next: list.get() }) };
        list.set(piece);
    }
}

#[cfg(test)]
mod tests;

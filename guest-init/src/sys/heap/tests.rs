//! Pieces of memory stay apart, aligned and whole, whatever comes and goes.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A piece in use: where, how large, and the byte it is full of.
struct InUse {
    memory: *mut u8,
    layout: Layout,
    byte: u8,
}

impl InUse {
    fn take(heap: &Heap, size: usize, align: usize, byte: u8) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { heap.alloc(layout) };
        assert!(!memory.is_null());
        assert_eq!(memory.addr() % align, 0);
        // SAFETY: the heap gave `size` bytes; were they someone else's, that one's check would fail.
        unsafe { memory.write_bytes(byte, size) };
        Self {
            memory,
            layout,
            byte,
        }
    }

    fn give_back(self, heap: &Heap) {
        // SAFETY: it was filled when it was taken and is still in use.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory, self.layout.size()) };
        assert!(
            bytes.iter().all(|byte| *byte == self.byte),
            "someone else wrote here"
        );
        // SAFETY: it came from this heap with this layout and is not used any more.
        unsafe { heap.dealloc(self.memory, self.layout) };
    }
}

proptest! {
    #[test]
    fn pieces_stay_apart(steps in prop::collection::vec((1_usize..70_000, 0_u32..13, any::<prop::sample::Index>()), 1..120)) {
        let heap = Heap::new();
        let mut in_use: Vec<InUse> = Vec::new();
        for (number, (size, align, which)) in steps.into_iter().enumerate() {
            // Mostly small ones, as in life.
            let size = if number % 3 == 0 { size } else { size % 300 + 1 };
            in_use.push(InUse::take(&heap, size, 1 << align, number.to_le_bytes()[0]));
            if number % 2 == 1 {
                let at = which.index(in_use.len());
                in_use.swap_remove(at).give_back(&heap);
            }
        }
        for piece in in_use {
            piece.give_back(&heap);
        }
    }
}

#[test]
fn what_comes_back_is_used_again() {
    let heap = Heap::new();
    let first = InUse::take(&heap, 100, 8, 1);
    let at = first.memory;
    first.give_back(&heap);
    for _ in 0..100_000 {
        let again = InUse::take(&heap, 128, 8, 2);
        assert_eq!(again.memory, at);
        again.give_back(&heap);
    }
}

#[test]
fn no_more_than_a_page_of_alignment_is_promised_for_large_ones() {
    let heap = Heap::new();
    let layout = Layout::from_size_align(1 << 20, 8192).unwrap();
    // SAFETY: the layout's size is not zero.
    assert!(unsafe { heap.alloc(layout) }.is_null());
}

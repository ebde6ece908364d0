//! The same as the standard library's, for every size and overlap.

use std::ffi::CString;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn copies(from in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut to = std::vec![0; from.len() + 1];
        // SAFETY: both are at least as long and apart.
        unsafe { copy(to.as_mut_ptr(), from.as_ptr(), from.len()) };
        prop_assert_eq!(&to[..from.len()], &from);
        prop_assert_eq!(to[from.len()], 0);
    }

    #[test]
    fn moves_over_itself(bytes in prop::collection::vec(any::<u8>(), 60..100), to in 0_usize..30, from in 0_usize..30, size in 0_usize..30) {
        let mut moved = bytes.clone();
        let start = moved.as_mut_ptr();
        // SAFETY: both ranges are within the 60 bytes and more.
        unsafe { move_over(start.wrapping_add(to), start.wrapping_add(from), size) };
        let mut wanted = bytes;
        wanted.copy_within(from..from + size, to);
        prop_assert_eq!(moved, wanted);
    }

    #[test]
    fn fills(size in 0_usize..100, byte in any::<u8>()) {
        let mut to = std::vec![!byte; size + 1];
        // SAFETY: it is longer than that.
        unsafe { fill(to.as_mut_ptr(), byte, size) };
        let (filled, rest) = to.split_at(size);
        prop_assert!(filled.iter().all(|other| *other == byte));
        prop_assert_eq!(rest, &[!byte]);
    }

    #[test]
    fn compares(left in prop::collection::vec(0_u8..3, 0..12), right in prop::collection::vec(0_u8..3, 0..12)) {
        let size = left.len().min(right.len());
        // SAFETY: both are at least as long.
        let order = unsafe { compare(left.as_ptr(), right.as_ptr(), size) };
        prop_assert_eq!(order.cmp(&0), left[..size].cmp(&right[..size]));
    }

    #[test]
    fn measures(bytes in prop::collection::vec(1_u8.., 0..40)) {
        let size = bytes.len();
        let string = CString::new(bytes).unwrap();
        // SAFETY: a C string ends.
        prop_assert_eq!(unsafe { length(string.as_ptr().cast()) }, size);
    }
}

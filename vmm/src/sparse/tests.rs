//! What a copy has of its original.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;

#[test]
fn a_copy_has_the_content_and_the_holes() {
    let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    from.set_len(64 << 20).unwrap();
    for (at, bytes) in [
        (0, &b"first"[..]),
        (20 << 20, &[7; 10_000]),
        ((64 << 20) - 4, b"last"),
    ] {
        from.write_all_at(bytes, at).unwrap();
    }
    copy(&from, &to).unwrap();
    assert_eq!(to.metadata().unwrap().len(), 64 << 20);
    assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    let (mut one, mut other) = (vec![0; 64 << 20], vec![0; 64 << 20]);
    from.read_exact_at(&mut one, 0).unwrap();
    to.read_exact_at(&mut other, 0).unwrap();
    assert!(one == other);
}

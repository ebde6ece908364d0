//! The keys that take a terminal away.

use super::without_detach_keys;

#[test]
fn detach_keys_are_seen_across_reads_and_only_together() {
    let mut typed = 0;
    assert_eq!(without_detach_keys(b"ab\x10", &mut typed), b"ab");
    assert_eq!(without_detach_keys(b"c\x10\x10", &mut typed), b"\x10c\x10");
    assert_eq!(typed, 1);
    assert_eq!(without_detach_keys(b"\x11rest", &mut typed), b"");
    assert_eq!(typed, 2);
}

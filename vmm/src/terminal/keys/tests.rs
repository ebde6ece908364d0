//! The keys that take a terminal away.

use super::{DETACH, Keys, Watch};

fn watch(keys: &str) -> Watch {
    Watch::new(keys.parse().unwrap())
}

#[test]
fn keys_are_written_as_docker_writes_them() {
    for (text, bytes) in [
        (DETACH, &b"\x10\x11"[..]),
        ("", b"\x10\x11"),
        ("a,ctrl-a,ctrl-@", b"a\x01\x00"),
        (
            "ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_",
            b"\x1b\x1c\x1d\x1e\x1f",
        ),
    ] {
        let keys: Keys = text.parse().unwrap();
        assert_eq!(keys.0, bytes, "{text}");
    }
    for text in ["ctrl-", "ctrl-ab", "ctrl-1", "a,,b", "ab", "ctrl-A", "é"] {
        text.parse::<Keys>().unwrap_err();
    }
}

#[test]
fn keys_are_seen_across_reads_and_only_together() {
    let mut watch = watch(DETACH);
    assert_eq!(watch.pass(b"ab\x10"), b"ab");
    assert_eq!(watch.pass(b"c\x10\x10"), b"\x10c\x10");
    assert!(!watch.is_over());
    assert_eq!(watch.pass(b"\x11rest"), b"");
    assert!(watch.is_over());
}

#[test]
fn keys_that_begin_within_themselves_are_seen() {
    let mut watch = watch("a,a,b");
    assert_eq!(watch.pass(b"aaaab"), b"aa");
    assert!(watch.is_over());
}

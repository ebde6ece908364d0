//! Tests of the version pin.

use super::Pin;

#[test]
fn reads_the_release_and_accepts_its_series_only() {
    let pin = Pin::parse("# tested with\n6.12.117  # Debian 12\n").unwrap();
    assert_eq!(pin.series(), "6.12");
    assert!(pin.accepts("6.12.117") && pin.accepts("6.12.9") && pin.accepts("6.12"));
    assert!(!pin.accepts("6.1.117") && !pin.accepts("6.120.1") && !pin.accepts("7.6.12"));
    assert_eq!(pin.relation("6.12.117"), "the pinned version");
    assert!(pin.relation("6.12.118").contains("not the pinned 6.12.117"));
}

#[test]
fn refuses_what_is_no_release() {
    for text in ["", "# nothing\n", "6.12\n", "6.12.x\n", "6.12.1.1\n"] {
        assert!(Pin::parse(text).is_err(), "{text:?}");
    }
}

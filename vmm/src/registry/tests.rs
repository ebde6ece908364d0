//! What several verbs share of registries.

use super::*;

#[test]
fn a_platform_has_two_or_three_parts() {
    let read = |text: &str| platform(text).map(|platform| platform.to_string());
    for text in ["linux/amd64", "linux/arm/v7"] {
        assert_eq!(read(text).as_deref(), Ok(text));
    }
    for text in [
        "",
        "linux",
        "linux/",
        "/amd64",
        "linux/arm/",
        "a/b/c/d",
        "linux//v7",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

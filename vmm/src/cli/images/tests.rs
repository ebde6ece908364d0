//! Patterns for names.

use super::*;

#[test]
fn patterns_stay_within_a_component() {
    for (pattern, text) in [
        ("alpine", "alpine"),
        ("al*", "alpine"),
        ("*", "alpine"),
        ("a?pine", "alpine"),
        ("*:latest", "alpine:latest"),
        ("example.org/*", "example.org/app"),
        ("*a*b*", "xaxbx"),
        ("*ab", "aab"),
    ] {
        assert!(glob(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [
        ("al", "alpine"),
        ("*", "example.org/app"),
        ("?", ""),
        ("a?b", "a/b"),
        ("*b", "abc"),
    ] {
        assert!(!glob(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn filters_are_read() {
    for text in [
        "dangling=true",
        "reference=al*",
        "label=a=b",
        "label=a",
        "before=x",
        "since=y",
    ] {
        assert!(text.parse::<Filter>().is_ok(), "{text}");
    }
    for text in ["dangling", "dangling=maybe", "color=red"] {
        assert!(text.parse::<Filter>().is_err(), "{text}");
    }
}

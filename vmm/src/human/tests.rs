//! docker's words.

use super::*;

#[test]
fn sizes_have_three_figures() {
    for (bytes, text) in [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (4_266_000, "4.27MB"),
        (77_800_000, "77.8MB"),
        (187_400_000, "187MB"),
        (999_600_000, "1GB"),
        (u64::MAX, "18.4EB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn ages_are_round() {
    for (seconds, text) in [
        (0, "Less than a second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (7199, "About an hour ago"),
        (86_400, "24 hours ago"),
        (86_400 * 3, "3 days ago"),
        (86_400 * 21, "3 weeks ago"),
        (86_400 * 100, "3 months ago"),
        (86_400 * 800, "2 years ago"),
    ] {
        assert_eq!(ago(seconds), text);
    }
}

#[test]
fn durations_are_go_s() {
    for (text, seconds) in [
        ("36h", Some(129_600)),
        ("1h30m5s", Some(5405)),
        ("0s", Some(0)),
        ("", None),
        ("1", None),
        ("1d", None),
        ("h", None),
        ("-1h", None),
        ("99999999999999999999h", None),
        ("9999999999999999999h", None),
        ("1hé", None),
    ] {
        assert_eq!(duration(text), seconds, "{text}");
    }
}

#[test]
fn dates_are_docker_s() {
    assert_eq!(date(1_700_000_000), "2023-11-14 22:13:20 +0000 UTC");
    assert_eq!(date(0), "1970-01-01 00:00:00 +0000 UTC");
    assert!(!date(u64::MAX).is_empty());
}

#[test]
fn times_are_read() {
    for (text, value) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T12:34:56.789012345Z", 1_709_210_096),
        ("2024-02-29T14:34:56+02:00", 1_709_210_096),
        ("1969-12-31T23:59:59Z", -1),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
    ] {
        assert_eq!(seconds(text), Some(value), "{text}");
    }
    for text in [
        "",
        "2024",
        "2024-13-01T00:00:00Z",
        "2024-01-01T00:00:00",
        "２０２４-01-01T00:00:00Z",
    ] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

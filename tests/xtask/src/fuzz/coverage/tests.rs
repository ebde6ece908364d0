//! Reports of several targets become one, and no parser is forgotten.

use super::*;

/// A report that has two lines of every parser, of which one ran.
fn whole() -> String {
    let file = |parser: &&str| {
        let end = if parser.ends_with(".rs") {
            ""
        } else {
            "/some.rs"
        };
        format!("SF:/hull/vmm/{parser}{end}\nDA:7,3\nDA:9,0\nend_of_record\n")
    };
    PARSERS.iter().map(file).collect()
}

#[test]
fn what_one_target_runs_has_run() {
    let mut lines = Lines::new();
    read(&whole(), &mut lines).unwrap();
    let more = "SF:/hull/vmm/image/src/tar.rs\nDA:7,0\nDA:9,18446744073709551615\nDA:11,0\n\
        SF:/hull/vmm/virtio/src/guest.rs\nDA:1,1\nSF:/elsewhere/vmm/image/src/tar.rs\nDA:1,1\n";
    read(more, &mut lines).unwrap();
    let rows = rows(&lines, Path::new("/hull/vmm")).unwrap();
    assert_eq!(rows.len(), PARSERS.len());
    for (name, all, run) in rows {
        let expected = if name == "image/src/tar.rs" {
            (3, 2)
        } else {
            (2, 1)
        };
        assert_eq!((all, run), expected, "{name}");
    }
}

#[test]
fn a_parser_without_lines_is_an_error() {
    let mut lines = Lines::new();
    let report = whole().replace("/image/src/layer.rs", "/image/src/layers.rs");
    read(&report, &mut lines).unwrap();
    let error = rows(&lines, Path::new("/hull/vmm")).unwrap_err();
    assert!(
        error.to_string().contains("vmm/image/src/layer.rs"),
        "{error}"
    );
}

#[test]
fn what_is_no_report_is_an_error() {
    for report in ["DA:1,1", "SF:a\nDA:1", "SF:a\nDA:one,1"] {
        assert!(read(report, &mut Lines::new()).is_err(), "{report}");
    }
}

#[test]
fn percentages_have_a_tenth() {
    let end = |all, run| {
        row("a", all, run)
            .split_whitespace()
            .last()
            .map(str::to_owned)
    };
    assert_eq!(end(3, 2).as_deref(), Some("66.6"));
    assert_eq!(end(8, 8).as_deref(), Some("100.0"));
}

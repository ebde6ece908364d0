//! Layers that nobody should accept, and what no layer may ask for.

use super::super::*;
use super::{image, image_with, listing};
use crate::Limits;
use crate::testing::archive::{Header, Tar};

#[test]
fn climbing_and_circling_are_refused() {
    let refused = |tar: Tar| match listing(&[tar]) {
        Err(LayerError::Tree(error)) => error,
        other => panic!("{other:?}"),
    };
    for name in ["../x", "a/../../x", "..", "/../etc/passwd", "a/.."] {
        assert!(
            matches!(refused(Tar::new().file(name, b"")), TreeError::Climbs(_)),
            "{name}"
        );
    }
    let target = Tar::new().file("a", b"").hard_link("b", "../a");
    assert!(matches!(refused(target), TreeError::Climbs(_)));
    let circle = Tar::new().hard_link("a", "b").hard_link("b", "a");
    assert!(matches!(refused(circle), TreeError::NoTarget { .. }));
    let itself = Tar::new().hard_link("a", "a");
    assert!(matches!(refused(itself), TreeError::NoTarget { .. }));
    let directory = Tar::new().directory("d").hard_link("b", "d");
    assert!(matches!(
        refused(directory),
        TreeError::DirectoryTarget { .. }
    ));
    let root = Tar::new().hard_link("b", "/");
    assert!(matches!(refused(root), TreeError::DirectoryTarget { .. }));
    let links = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"");
    assert!(matches!(refused(links), TreeError::Links(_)));
    let below = Tar::new().file("a", b"").file("a/x", b"");
    assert!(matches!(refused(below), TreeError::NotDirectory(_)));
    for name in ["d/.wh.", "d/.wh..", "d/.wh..."] {
        assert!(
            matches!(refused(Tar::new().file(name, b"")), TreeError::Name(_)),
            "{name}"
        );
    }
    let over_root = Tar::new().symlink("./", "x");
    assert!(matches!(refused(over_root), TreeError::Root));
    let name = "n".repeat(256);
    let long = Tar::new().long(b'L', name.as_bytes()).file("x", b"");
    assert!(matches!(refused(long), TreeError::Name(_)));
}

#[test]
fn depth_is_bounded() {
    // Each layer of links starts where the last one ended.
    let step = "d/".repeat(1000);
    let tar = Tar::new()
        .long(b'L', step.as_bytes())
        .directory("x")
        .long(b'K', step.as_bytes())
        .symlink("a", "")
        .long(b'L', format!("a/{step}").as_bytes())
        .directory("x")
        .long(b'L', format!("a/{step}a").as_bytes())
        .long(b'K', step.as_bytes())
        .symlink("x", "")
        .long(b'L', format!("a/{step}a/{step}").as_bytes())
        .directory("x");
    assert!(matches!(
        listing(&[tar]),
        Err(LayerError::Tree(TreeError::Depth(_)))
    ));
}

#[test]
fn numbers_and_sizes_are_bounded() {
    let many = (0..50).fold(Tar::new(), |tar, number| {
        tar.file(&format!("f{number}"), b"")
    });
    let layer = [many.end()];
    let limits = Limits {
        entries: 49,
        ..Limits::default()
    };
    let result = image_with(&layer, &limits);
    assert!(matches!(
        result,
        Err(LayerError::Tree(TreeError::TooMany(49)))
    ));
    let limits = Limits {
        metadata: 1000,
        ..Limits::default()
    };
    let result = image_with(&layer, &limits);
    assert!(matches!(
        result,
        Err(LayerError::Tree(TreeError::TooMuch(1000)))
    ));
    let limits = Limits {
        image: 8192,
        ..Limits::default()
    };
    let result = image_with(&[Tar::new().file("f", &[1; 10_000]).end()], &limits);
    assert!(
        matches!(result, Err(LayerError::Write(WriteError::TooLarge(8192)))),
        "{result:?}"
    );
    let device = Tar::new()
        .entry(Header::new(b"c", b'3', 0).device(5000, 1), &[])
        .end();
    let result = image(&[device]);
    assert!(matches!(
        result,
        Err(LayerError::Write(WriteError::Device { major: 5000, .. }))
    ));
    let value = vec![b'x'; 60_000];
    let names: Vec<_> = (0..5)
        .map(|n| format!("SCHILY.xattr.user.{n}").into_bytes())
        .collect();
    let records: Vec<_> = names.iter().map(|name| (&name[..], &value[..])).collect();
    let result = image(&[Tar::new().pax(&records).file("f", b"").end()]);
    assert!(matches!(
        result,
        Err(LayerError::Write(WriteError::Xattrs(_)))
    ));
    let sparse: &[(&[u8], &[u8])] = &[
        (b"GNU.sparse.size", b"9000000000000000000"),
        (b"GNU.sparse.map", b"0,0"),
    ];
    let result = image(&[Tar::new().pax(sparse).file("f", b"").end()]);
    assert!(
        matches!(result, Err(LayerError::Write(WriteError::TooLarge(_)))),
        "{result:?}"
    );
}

#[test]
fn time_is_bounded() {
    // Forty links, each through a path of a thousand detours, for every entry.
    let mut tar = Tar::new().directory("d");
    let detour = "d/../".repeat(800);
    for number in 0..39 {
        let target = format!("{detour}l{}", number + 1);
        let name = format!("l{number}");
        tar = tar.long(b'K', target.as_bytes()).symlink(&name, "");
    }
    tar = tar.symlink("l39", "d");
    let once = tar.clone().file("l0/f", b"");
    assert_eq!(listing(&[once]).unwrap()[&b"d/f"[..]].links, 1);
    let often = (0..50).fold(tar, |tar, number| tar.file(&format!("l0/f{number}"), b""));
    let limits = Limits {
        steps: 1_000_000,
        ..Limits::default()
    };
    let result = image_with(&[often.end()], &limits);
    assert!(matches!(
        result,
        Err(LayerError::Tree(TreeError::TooLong(1_000_000)))
    ));
    // A crowded directory, hidden over and over.
    let crowd = (0..1000).fold(Tar::new(), |tar, number| {
        tar.file(&format!("d/{number}"), b"")
    });
    let marks = (0..2000).fold(crowd, |tar, _| tar.file("d/.wh..wh..opq", b""));
    let result = image_with(&[marks.end()], &limits);
    assert!(matches!(
        result,
        Err(LayerError::Tree(TreeError::TooLong(_)))
    ));
}

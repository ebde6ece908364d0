//! What umoci unpacks of an image and what is mounted of ours are the same.

use std::process::Command;

use super::Fixture;
use crate::reference::Source;
use crate::testing::archive::{Header, Packing, Tar, oci_layout};
use crate::testing::mount::{Mounted, check, describe};

/// Three layers that use everything layers can do to each other.
fn layers() -> Vec<Vec<u8>> {
    let lower = Tar::new()
        .entry(Header::new(b"./", b'5', 0).mode(0o755), &[])
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/one", b"1")
        .symlink("lib", "usr/lib")
        .directory("opt")
        .file("opt/old", b"old")
        .directory("opt/sub")
        .file("opt/sub/old", b"old")
        .directory("gone")
        .file("gone/file", b"")
        .file("kept", b"kept")
        .hard_link("also", "kept")
        .file("turns", b"into a directory");
    let middle = Tar::new()
        .file(".wh.gone", b"")
        .directory("opt")
        .file("opt/.wh..wh..opq", b"")
        .file("opt/new", b"new")
        .hard_link("third", "kept")
        .file(".wh.turns", b"")
        .directory("turns")
        .file("turns/into", b"this");
    let upper = Tar::new()
        .entry(
            Header::new(b"kept", b'0', 7)
                .mode(0o4711)
                .owner(12, 34)
                .mtime(99),
            b"changed",
        )
        .pax(&[
            (b"mtime", b"1600000000.987654321"),
            (b"SCHILY.xattr.user.x", b"y"),
        ])
        .file("usr/lib/two", b"2")
        .entry(Header::new(b"null", b'3', 0).device(1, 3).mode(0o666), &[])
        .entry(Header::new(b"pipe", b'6', 0), &[])
        .directory("usr/lib")
        .directory("usr")
        .directory("opt")
        .directory("turns")
        .entry(Header::new(b"./", b'5', 0).mode(0o755), &[]);
    [lower, middle, upper].into_iter().map(Tar::end).collect()
}

#[test]
fn umoci_unpacks_the_same_tree() {
    let fixture = Fixture::new();
    let layout = fixture.work.path().join("layout");
    let path = oci_layout(&layout, &layers(), Packing::Gzip, "x");
    let bundle = fixture.work.path().join("bundle");
    let mut umoci = Command::new("umoci");
    let image = format!("{}:x", layout.display());
    umoci.args(["unpack", "--image", &image]).arg(&bundle);
    let output = umoci.output().expect("umoci is needed");
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: unpacking devices and owners needs root");
        return;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let image = fixture.store.get(&Source::Oci { path, tag: None }).unwrap();
    check(&image.path);
    let Some(mounted) = Mounted::new(&image.path, &fixture.work.path().join("mnt")) else {
        return;
    };
    let (theirs, ours) = (describe(&bundle.join("rootfs")), describe(&mounted.path));
    let differences: Vec<_> = theirs
        .lines()
        .zip(ours.lines())
        .filter(|(theirs, ours)| theirs != ours)
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(theirs.lines().count(), ours.lines().count());
    assert!(ours.contains("./third"));
}

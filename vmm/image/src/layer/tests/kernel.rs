//! The kernel's and erofs-utils' opinion of images: what `tar` unpacks and what is mounted are equal.

use std::process::Command;

use super::image;
use crate::testing::archive::{Header, Tar};
use crate::testing::mount::{Mounted, check, describe};

fn unpack_and_compare(layer: &[u8]) {
    let work = tempfile::tempdir().unwrap();
    let image_path = work.path().join("image");
    std::fs::write(&image_path, image(&[layer.to_vec()]).unwrap()).unwrap();
    check(&image_path);
    let Some(mounted) = Mounted::new(&image_path, &work.path().join("mnt")) else {
        return;
    };
    let (archive, unpacked) = (work.path().join("layer.tar"), work.path().join("unpacked"));
    std::fs::write(&archive, layer).unwrap();
    std::fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&archive)
        .arg("-C")
        .arg(&unpacked)
        .status()
        .unwrap();
    assert!(tar.success());
    let (theirs, ours) = (describe(&unpacked), describe(&mounted.path));
    assert!(theirs.lines().count() > 3);
    similar(&theirs, &ours);
}

fn similar(theirs: &str, ours: &str) {
    let differences: Vec<_> = theirs
        .lines()
        .zip(ours.lines())
        .filter(|(theirs, ours)| theirs != ours)
        .take(5)
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(theirs.lines().count(), ours.lines().count());
}

#[test]
fn a_layer_of_everything() {
    let capability = b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut tar = Tar::new()
        .entry(Header::new(b"./", b'5', 0).mode(0o755).mtime(1), &[])
        .directory("etc")
        .pax(&[
            (b"mtime", b"1234567890.123456789"),
            (b"SCHILY.xattr.security.capability", capability),
        ])
        .entry(Header::new(b"etc/ping", b'0', 4097).mode(0o755), &[7; 4097])
        .entry(
            Header::new(b"etc/sudo", b'0', 4096)
                .mode(0o6755)
                .owner(3, 4),
            &[8; 4096],
        )
        .hard_link("etc/hard", "etc/ping")
        .pax(&[(b"uid", b"100000"), (b"gid", b"2000000")])
        .file("etc/owned", b"x")
        .entry(Header::new(b"null", b'3', 0).device(1, 3), &[])
        .entry(Header::new(b"loop", b'4', 0).device(7, 4097), &[])
        .entry(Header::new(b"pipe", b'6', 0).mode(0o600), &[])
        .entry(Header::new(b"\xff\xfe", b'0', 0), &[])
        .symlink("link", "etc/ping");
    tar = tar.directory("many");
    for number in 0..2000 {
        let name = format!("many/{number}-{}", "n".repeat(number % 200));
        tar = tar.long(b'L', name.as_bytes()).file("x", name.as_bytes());
    }
    let map: &[(&[u8], &[u8])] = &[
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"sparse"),
        (b"GNU.sparse.realsize", b"50000000"),
    ];
    let mut stored = b"3\n5120\n5120\n39997440\n12\n50000000\n0\n".to_vec();
    stored.resize(512, 0);
    stored.extend([9; 5132]);
    let tar = tar.pax(map).file("GNUSparseFile.0/sparse", &stored);
    unpack_and_compare(&tar.end());
}

#[test]
fn a_tree_of_this_machine() {
    // Whatever tar makes of a real directory: its own dialects, times with nanoseconds.
    for format in [&["gnu", "--sparse"][..], &["pax", "--sparse"], &["ustar"]] {
        let output = Command::new("tar")
            .args(["-c", "-C", "/etc", ".", "--format"])
            .args(format)
            .output()
            .unwrap();
        assert!(output.status.success());
        unpack_and_compare(&output.stdout);
    }
}

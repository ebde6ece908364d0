//! Files of archives and directories by name.

use std::io::Write;

use super::*;
use crate::testing::archive::{Header, Tar};

fn archive(tar: Tar) -> Files {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&tar.end()).unwrap();
    Files::archive(file).unwrap()
}

#[test]
fn members_are_found_through_links() {
    let files = archive(
        Tar::new()
            .file("./a/layer.tar", b"data")
            .symlink("b/layer.tar", "../a/layer.tar")
            .symlink("c", "/b/layer.tar")
            .hard_link("d", "a/layer.tar")
            .symlink("loop", "loop")
            .symlink("out", "../../../../etc/passwd"),
    );
    for name in ["a/layer.tar", "b/layer.tar", "c", "d", "./a//layer.tar"] {
        assert_eq!(files.read(name, 10).unwrap(), b"data", "{name}");
    }
    for name in ["loop", "out", "etc/passwd", "missing"] {
        assert!(
            matches!(files.read(name, 10), Err(FilesError::Missing(_))),
            "{name}"
        );
    }
    let error = files.read("a/layer.tar", 3).unwrap_err();
    assert!(matches!(
        error,
        FilesError::TooLong {
            bytes: 4,
            most: 3,
            ..
        }
    ));
}

#[test]
fn a_large_member_costs_no_reading() {
    let mut header = Header::new(b"huge", b'0', 1 << 40).sealed().to_vec();
    let mut file = tempfile::tempfile().unwrap();
    header.resize(512, 0);
    file.write_all(&header).unwrap();
    file.set_len(512 + (1 << 40)).unwrap();
    let files = Files::archive(file).unwrap();
    assert_eq!(files.open("huge").unwrap().length(), 1 << 40);
}

#[test]
fn cut_archives_are_refused() {
    let mut file = tempfile::tempfile().unwrap();
    let bytes = Tar::new().file("a", &[0; 5000]).end();
    file.write_all(&bytes[..3000]).unwrap();
    assert!(matches!(
        Files::archive(file),
        Err(FilesError::Tar(TarError::Truncated(_)))
    ));
}

#[test]
fn only_regular_files_are_opened() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let status = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(matches!(open(&fifo), Err(FilesError::NotFile(_))));
    assert!(matches!(
        open(directory.path()),
        Err(FilesError::NotFile(_))
    ));
    let files = Files::Directory(directory.path().to_owned());
    assert!(matches!(
        files.read("index.json", 10),
        Err(FilesError::Missing(_))
    ));
    let files = Files::Directory(directory.path().join("none"));
    assert!(matches!(
        files.read("index.json", 10),
        Err(FilesError::Open { .. })
    ));
}

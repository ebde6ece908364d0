//! What is made is what e2fsprogs takes for a clean file system, at all sizes.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::*;

fn made(bytes: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    format(file.as_file(), bytes, *b"0123456789abcdef", 1_800_000_000).unwrap();
    file
}

fn tool(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program} of e2fsprogs: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {text}{errors}");
    text
}

#[test]
fn it_is_a_clean_file_system_at_all_sizes() {
    let group = GROUP * BLOCK;
    let sizes = [
        LEAST,
        LEAST + BLOCK + 1,
        group - BLOCK,
        group,
        group + BLOCK,
        group + OVERHEAD * 4 * BLOCK,
        10 << 30,
        (1 << 40) + (300 << 20),
    ];
    for bytes in sizes {
        let file = made(bytes);
        let path = file.path().to_str().unwrap();
        let told = tool("/usr/sbin/fsck.ext4", &["-f", "-n", path]);
        assert!(told.contains(": 11/"), "{bytes}: {told}");
        let length = file.as_file().metadata().unwrap().len();
        assert!(length <= bytes && length + group > bytes, "{bytes}");
    }
}

#[test]
fn it_takes_next_to_nothing_of_the_host() {
    let file = made(10 << 30);
    let taken = file.as_file().metadata().unwrap().blocks() * 512;
    assert!(taken <= 64 << 10, "{taken} bytes");
}

#[test]
fn what_fsck_accepts_is_not_everything() {
    let file = made(64 << 20);
    let layout = Layout::new(64 << 20);
    file.as_file()
        .write_all_at(&[0; 16], layout.start(0) * BLOCK)
        .unwrap();
    let path = file.path().to_str().unwrap();
    let output = Command::new("/usr/sbin/fsck.ext4")
        .args(["-f", "-n", path])
        .output();
    assert!(!output.unwrap().status.success());
}

//! What is refused, and with which words.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

fn saved() -> Vec<u8> {
    encode(&Parts {
        about: b"of an image",
        pages: b"pages",
        state: &[7; 1000],
    })
}

#[test]
fn what_was_written_is_read() {
    let bytes = saved();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    assert_eq!(read(&file).unwrap(), bytes);
    let parts = decode(&bytes).unwrap();
    assert_eq!(
        (parts.about, parts.pages, parts.state),
        (&b"of an image"[..], &b"pages"[..], &[7; 1000][..])
    );
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = saved();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            assert!(decode(&damaged).is_err(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    let bytes = saved();
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length}");
    }
    let error = decode(&[&bytes[..], &[0]].concat())
        .unwrap_err()
        .to_string();
    let length = bytes.len();
    assert_eq!(
        error,
        format!(
            "The saved machine has {} bytes, and says that it has {length}",
            length + 1
        )
    );
}

#[test]
fn lengths_that_no_file_has_are_refused() {
    for (place, length) in [(12, 4), (16, 8)] {
        let mut bytes = saved();
        bytes[place..place + length].fill(0xff);
        assert!(matches!(decode(&bytes), Err(FormatError::Length { .. })));
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = saved();
    bytes[8] = 9;
    let error = decode(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "The machine was saved in version 9 of the format; this hull has version 3"
    );
    assert!(matches!(decode(b"ELF"), Err(FormatError::Foreign)));
}

#[test]
fn a_file_longer_than_any_of_ours_is_not_read() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LONGEST + 1).unwrap();
    assert!(matches!(read(&file), Err(FormatError::Foreign)));
}

#[test]
fn a_draft_learns_what_a_copy_has_written() {
    let place = tempfile::tempdir().unwrap();
    let mut draft = draft::Draft::begin(place.path(), "one").unwrap().unwrap();
    draft.machine.write_all(&saved()).unwrap();
    let copy = tempfile::tempfile().unwrap();
    for file in [&draft.memory, &copy] {
        file.set_len(256 << 20).unwrap();
        file.write_all_at(&[1; 3 * 4096], 4 * 4096).unwrap();
    }
    copy.write_all_at(&[2], 5 * 4096).unwrap();
    draft.learn(&copy).unwrap();
    let bytes = std::fs::read(place.path().join("tmp/one").join(MACHINE)).unwrap();
    let parts = decode(&bytes).unwrap();
    assert_eq!(
        (parts.about, parts.state),
        (&b"of an image"[..], &[7; 1000][..])
    );
    assert_eq!(parts.pages, [5_u32, 1].map(u32::to_le_bytes).concat());
    // What is no saved machine stays as it is.
    draft.machine.set_len(5).unwrap();
    draft.learn(&copy).unwrap_err();
    assert_eq!(draft.machine.metadata().unwrap().len(), 5);
}

#[test]
fn on_a_full_disk_a_draft_learns_nothing_and_loses_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a small file system needs root to mount it");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let command = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        let status = command.args(&words[1..]).arg(place.path()).status();
        assert!(status.unwrap().success());
    };
    command(&["mount", "-t", "tmpfs", "-o", "size=12k", "small"]);
    let mut draft = draft::Draft::begin(place.path(), "one").unwrap().unwrap();
    draft.machine.write_all(&saved()).unwrap();
    std::fs::write(place.path().join("rest"), [1; 8192]).unwrap();
    let copy = tempfile::tempfile().unwrap();
    for file in [&draft.memory, &copy] {
        file.set_len(256 << 20).unwrap();
    }
    // More runs of pages than there is room for in the file's last page.
    for page in 0..700 {
        copy.write_all_at(&[1], page * 2 * 4096).unwrap();
    }
    draft.learn(&copy).unwrap_err();
    let machine = place.path().join("tmp/one").join(MACHINE);
    assert_eq!(std::fs::read(&machine).unwrap(), saved());
    std::fs::remove_file(place.path().join("rest")).unwrap();
    draft.learn(&copy).unwrap();
    let pages = std::fs::read(&machine).unwrap();
    assert_eq!(decode(&pages).unwrap().pages.len(), 700 * 8);
    drop(draft);
    command(&["umount"]);
}

//! What is refused, and with which words.

use std::io::Write;

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

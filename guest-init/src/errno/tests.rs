//! Words for errors.

use alloc::string::ToString;

use super::*;

#[test]
fn known_errors_have_words_and_a_name() {
    assert_eq!(
        SystemError(Errno::NODEV).to_string(),
        "no such device (ENODEV)"
    );
}

#[test]
fn unknown_errors_keep_their_number() {
    assert_eq!(
        SystemError(Errno::from_raw_os_error(133)).to_string(),
        "error 133"
    );
}

#[test]
fn every_error_is_listed_once() {
    for (at, (errno, name, _)) in WORDS.iter().enumerate() {
        assert_eq!(
            WORDS.iter().position(|(other, ..)| other == errno),
            Some(at),
            "{name}"
        );
    }
}

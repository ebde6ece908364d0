//! What a program's first bytes say of its interpreter.

extern crate std;

use super::*;

#[test]
fn the_interpreter_of_a_real_program_is_found() {
    let own = std::fs::read("/bin/true").unwrap();
    let name = interpreter_of(&own).unwrap();
    assert_eq!(name.as_c_str(), c"/lib64/ld-linux-x86-64.so.2");
}

#[test]
fn what_is_cut_or_something_else_has_none() {
    let own = std::fs::read("/bin/true").unwrap();
    for length in (0..500).chain([own.len() / 2]) {
        // Wherever it ends: no panic.
        let _ = interpreter_of(&own[..length]);
    }
    let mut odd = own;
    odd[HEADER_SIZE..HEADER_SIZE + 2].copy_from_slice(&[0, 0]);
    assert_eq!(interpreter_of(&odd), None);
    assert_eq!(interpreter_of(b"#!/bin/sh\n"), None);
}

#[test]
fn a_file_is_read_and_a_directory_is_not() {
    assert!(read_file(c"/bin/true").unwrap().starts_with(b"\x7fELF"));
    assert_eq!(read_file(c"/bin"), None);
    read(b"no such program", b"/bin:/usr/bin");
}

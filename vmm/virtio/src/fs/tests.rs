//! The file system device gives a guest what it was handed and nothing else, whatever raw FUSE says.

mod escape;
mod garbage;
mod posix;
mod wire;

use std::fs;

use self::wire::{Files, REQUESTS, lookup, request};
use super::abi::opcode;
use crate::contract::{Subject, device_contract};
use crate::fs::Fs;
use crate::guest::Guest;

impl Subject for Files {
    type Device = Fs;
    const EAGER: usize = REQUESTS;

    fn new() -> Self {
        let files = Self::empty();
        fs::write(files.path("greeting"), "hello").unwrap();
        files
    }

    fn device(&mut self) -> Fs {
        self.fs(false)
    }

    fn exercise(&mut self, guest: &mut Guest) {
        let mut init = Vec::new();
        for word in [7_u32, 41, 1 << 20, u32::MAX] {
            init.extend_from_slice(&word.to_le_bytes());
        }
        let answer = request(guest, opcode::INIT, 0, &[&init], 64).unwrap();
        assert_eq!(answer[..4], 7_u32.to_le_bytes());
        let share = lookup(guest, 1, "0").unwrap();
        let file = lookup(guest, share.node, "greeting").unwrap();
        assert_eq!(file.size, 5);
        let handle = request(guest, opcode::OPEN, file.node, &[&[0; 8]], 16).unwrap();
        let read = [&handle[..8], &[0; 8], &100_u32.to_le_bytes(), &[0; 20]].concat();
        let bytes = request(guest, opcode::READ, file.node, &[&read], 100).unwrap();
        assert_eq!(bytes, b"hello");
    }
}

device_contract!(Files);

/// What the guest knew before a snapshot it knows after it, on a device with the same shares.
#[test]
fn goes_on_with_what_was_open() {
    let mut files = Files::empty();
    fs::create_dir(files.path("inner")).unwrap();
    fs::write(files.path("inner/file"), "kept").unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let inner = lookup(&mut guest, share.node, "inner").unwrap();
    let file = lookup(&mut guest, inner.node, "file").unwrap();
    let handle = request(&mut guest, opcode::OPEN, file.node, &[&[0; 8]], 16).unwrap();
    let mut state = guest.slot.save().unwrap();
    // A copy may be saved before it has done anything.
    for _ in 0..2 {
        guest.move_to(files.device());
        guest.slot.restore(&state).unwrap();
        state = guest.slot.save().unwrap();
    }
    let read = [&handle[..8], &[0; 8], &100_u32.to_le_bytes(), &[0; 20]].concat();
    let bytes = request(&mut guest, opcode::READ, file.node, &[&read], 100);
    assert_eq!(bytes.unwrap(), b"kept");
    // Another file of the same name is not the one that was known.
    fs::rename(files.path("inner/file"), files.path("inner/old")).unwrap();
    fs::write(files.path("inner/file"), "new").unwrap();
    guest.move_to(files.device());
    guest.slot.restore(&state).unwrap();
    let answer = request(&mut guest, opcode::GETATTR, file.node, &[&[0; 16]], 104);
    assert_eq!(answer, Err(libc::ESTALE));
    let bytes = request(&mut guest, opcode::READ, file.node, &[&read], 100);
    assert_eq!(bytes, Err(libc::EBADF));
}

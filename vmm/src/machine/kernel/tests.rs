//! Small ELF files, sound and otherwise.

use std::io::Write;

use super::*;
use crate::config::Memory;

/// An ELF file with one segment (`size` bytes in memory at `address`) and one note.
fn elf(address: u64, content: &[u8], size: u64, note: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[18..20].copy_from_slice(&62_u16.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&2_u16.to_le_bytes());
    let at = 64 + 2 * 56;
    let header = |kind: u32, offset: usize, address: u64, length: usize, size: u64| {
        let mut header = Vec::new();
        header.extend(kind.to_le_bytes());
        header.extend(0_u32.to_le_bytes());
        for value in [offset as u64, address, address, length as u64, size, 1] {
            header.extend(value.to_le_bytes());
        }
        header
    };
    file.extend(header(1, at, address, content.len(), size));
    file.extend(header(
        4,
        at + content.len(),
        0,
        note.len(),
        note.len() as u64,
    ));
    file.extend(content);
    file.extend(note);
    file
}

fn note(entry: u32) -> Vec<u8> {
    let mut note = Vec::new();
    // Another note first: GNU build id.
    for word in [4, 3, 3] {
        note.extend(u32::to_le_bytes(word));
    }
    note.extend(b"GNU\0abc\0");
    for word in [4, 4, 18] {
        note.extend(u32::to_le_bytes(word));
    }
    note.extend(b"Xen\0");
    note.extend(entry.to_le_bytes());
    note
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn load_into_32_mib(kernel: &[u8], initramfs: &[u8]) -> Result<(GuestMemory, u64), LoadError> {
    let memory = GuestMemory::new(Memory::SMALLEST).unwrap();
    let entry = load(
        &memory,
        &file(kernel),
        &file(initramfs),
        b"quiet\0",
        b"_MP_",
    )?;
    Ok((memory, entry))
}

fn read(memory: &GuestMemory, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory
        .view()
        .read_slice(&mut bytes, GuestAddress(address))
        .unwrap();
    bytes
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn kernel_initramfs_and_tables_are_where_the_kernel_looks() {
    let kernel = elf(0x20_0000, b"code", 0x1801, &note(0x20_0040));
    let (memory, entry) = load_into_32_mib(&kernel, b"archive").unwrap();
    assert_eq!(entry, 0x20_0040);
    assert_eq!(read(&memory, 0x20_0000, 4), b"code");
    let info = read(&memory, layout::START_INFO, 56 + 32 + 3 * 24);
    assert_eq!(
        info[..16],
        [0x78, 0xc5, 0x6e, 0x33, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    );
    let modules = word(&info, 16);
    assert_eq!(modules, layout::START_INFO + 56);
    assert_eq!((word(&info, 56), word(&info, 64)), (0x20_2000, 7));
    assert_eq!(read(&memory, 0x20_2000, 7), b"archive");
    assert_eq!(read(&memory, word(&info, 24), 6), b"quiet\0");
    assert_eq!(word(&info, 40), layout::START_INFO + 88);
    assert_eq!(info[48], 3);
    assert_eq!(
        (word(&info, 88), word(&info, 96), info[104]),
        (0, layout::MP_TABLE, 1)
    );
    assert_eq!(read(&memory, layout::MP_TABLE, 4), b"_MP_");
    assert_eq!(
        read(&memory, layout::GDT + 8, 8),
        registers::DESCRIPTORS[1].to_le_bytes()
    );
}

#[test]
fn what_is_no_kernel_is_named() {
    let refused = |bytes: &[u8]| match load_into_32_mib(bytes, b"") {
        Err(LoadError::Kernel(error)) => error,
        other => panic!("{other:?}"),
    };
    let good = elf(0x20_0000, b"code", 4, &note(0x20_0000));
    assert!(matches!(refused(b""), ElfError::NotElf));
    assert!(matches!(refused(b"#!/bin/sh\n"), ElfError::NotElf));
    assert!(matches!(refused(&good[..100]), ElfError::Truncated));
    assert!(matches!(
        refused(&elf(0x20_0000, b"code", 4, &[])),
        ElfError::NoEntry
    ));
    // Below extended memory it would lie on the boot tables.
    assert!(matches!(
        refused(&elf(0x6000, b"code", 4, &note(1))),
        ElfError::Malformed
    ));
    assert!(matches!(
        refused(&elf(0x20_0000, b"code", 3, &note(1))),
        ElfError::Malformed
    ));
    assert!(matches!(
        refused(&elf(u64::MAX, b"code", 4, &note(1))),
        ElfError::Malformed
    ));
}

#[test]
fn what_is_too_large_is_refused() {
    let large = elf(0x20_0000, b"code", 1 << 40, &note(0x20_0000));
    assert!(matches!(
        load_into_32_mib(&large, b""),
        Err(LoadError::Memory { .. })
    ));
    let nearly = elf(0x20_0000, b"code", (30 << 20) - 4096, &note(0x20_0000));
    assert!(load_into_32_mib(&nearly, &[1; 4096]).is_ok());
    assert!(matches!(
        load_into_32_mib(&nearly, &[1; 4097]),
        Err(LoadError::Memory { .. })
    ));
}

#[test]
fn a_kernel_that_shrinks_is_an_error() {
    let mut kernel = elf(0x20_0000, b"code", 4, &note(0x20_0000));
    // The segment claims more bytes than the file has.
    kernel[64 + 32..64 + 40].copy_from_slice(&4096_u64.to_le_bytes());
    kernel[64 + 40..64 + 48].copy_from_slice(&4096_u64.to_le_bytes());
    assert!(matches!(
        load_into_32_mib(&kernel, b""),
        Err(LoadError::Read("kernel", _))
    ));
}

#[test]
fn notes_may_be_anything() {
    for length in 0..note(7).len() {
        let mut cut = note(7);
        cut.truncate(length);
        let _ = load_into_32_mib(&elf(0x20_0000, b"code", 4, &cut), b"");
    }
    let huge = [0xff; 64];
    assert!(matches!(
        load_into_32_mib(&elf(0x20_0000, b"code", 4, &huge), b""),
        Err(LoadError::Kernel(ElfError::NoEntry))
    ));
}

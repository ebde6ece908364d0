//! Tests of the rewriting: what a loader would put into memory must be the same before and after.

use std::collections::BTreeMap;

use super::{FILE_HEADER, PAGE, PROGRAM_HEADER, SHORTEST_GAP, compact, segments, u64_at};

/// An ELF file with one loadable segment at 16 MiB, memory 3 pages longer than the data, and a note inside it.
fn elf(data: &[u8]) -> Vec<u8> {
    let offset = 0x1000_u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(FILE_HEADER, 0);
    file[24..32].copy_from_slice(&0x0100_0123_u64.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[40..48].copy_from_slice(&0x7777_u64.to_le_bytes());
    file[54..64].copy_from_slice(&[56, 0, 2, 0, 64, 0, 29, 0, 28, 0]);
    for (kind, flags, extra, length) in [(1_u32, 7_u32, 0, data.len() as u64), (4, 4, 16, 32)] {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        let memory = if kind == 1 {
            length + 3 * PAGE as u64
        } else {
            length
        };
        let place = 0x0100_0000 + extra;
        let words = [
            offset + extra,
            0xffff_ffff_8000_0000 + place,
            place,
            length,
            memory,
            0x20_0000,
        ];
        file.extend(words.into_iter().flat_map(u64::to_le_bytes));
    }
    file.resize(0x1000, 0);
    file.extend(data);
    file.extend(b"symbols and section headers");
    file
}

/// What a loader makes of it: the byte at each physical address that is not zero, and the end of the memory in use.
fn loaded(elf: &[u8]) -> (BTreeMap<u64, u8>, u64) {
    let mut memory = BTreeMap::new();
    let mut end = 0;
    for segment in segments(elf)
        .unwrap()
        .iter()
        .filter(|segment| segment.kind == 1)
    {
        assert_eq!(
            segment.virtual_address - segment.physical_address,
            0xffff_ffff_8000_0000
        );
        assert!(segment.memory_size >= segment.data.len() as u64);
        assert!(segment.physical_address >= end, "segments overlap");
        end = segment.physical_address + segment.memory_size;
        memory.extend(
            (segment.physical_address..)
                .zip(segment.data.iter().copied())
                .filter(|(_, byte)| *byte != 0),
        );
    }
    (memory, end)
}

#[test]
fn gives_a_loader_the_same_memory_from_a_smaller_file() {
    let gap = vec![0; SHORTEST_GAP + 2 * PAGE];
    let short = vec![0; SHORTEST_GAP - 2 * PAGE];
    let data = [
        &[1; 5000][..],
        &gap,
        &[2; 100],
        &short,
        &[3; 7],
        &gap,
        &gap,
        &[4; 9],
    ]
    .concat();
    let before = elf(&data);
    let after = compact(&before).unwrap();
    assert_eq!(loaded(&after), loaded(&before));
    let saved = 3 * SHORTEST_GAP;
    assert!(
        after.len() + saved < data.len(),
        "{} of {}",
        after.len(),
        data.len()
    );
    assert_eq!(after[24..32], before[24..32], "the entry point moved");
    assert_eq!(
        segments(&after).unwrap().len(),
        4,
        "three pieces and the note"
    );
}

#[test]
fn keeps_the_note_and_drops_the_sections() {
    let data: Vec<u8> = (0..100).collect();
    let after = compact(&elf(&data)).unwrap();
    let note = segments(&after).unwrap().pop().unwrap();
    assert_eq!((note.kind, note.data), (4, &data[16..48]));
    assert_eq!(
        u64_at(&after, FILE_HEADER + PROGRAM_HEADER + 48).unwrap(),
        4
    );
    assert_eq!(after[58..64], [0; 6]);
    assert!(after.len() <= 2 * PAGE + data.len() + 32, "{}", after.len());
}

#[test]
fn the_file_can_be_mapped_page_by_page() {
    let after = compact(&elf(
        &[&[1; 70_000][..], &[0; 70_000], &[2; 70_000]].concat()
    ))
    .unwrap();
    for index in 0..segments(&after).unwrap().len() {
        let header = FILE_HEADER + index * PROGRAM_HEADER;
        let [offset, physical] = [8, 24].map(|field| u64_at(&after, header + field).unwrap());
        assert_eq!(offset % PAGE as u64, physical % PAGE as u64);
    }
}

#[test]
fn a_segment_of_zeros_keeps_its_memory() {
    let before = elf(&vec![0; 10 * PAGE]);
    assert_eq!(loaded(&compact(&before).unwrap()), loaded(&before));
}

#[test]
fn refuses_what_is_cut_short_or_no_elf() {
    let whole = elf(&[7; 100]);
    assert!(compact(b"MZ").is_err());
    for length in [0, 5, 63, 100, 0x1000 + 99] {
        assert!(compact(&whole[..length]).is_err(), "{length}");
    }
}

//! Disks: what is written can be read, what is out of range or forbidden fails, and nothing else changes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use super::{Access, Block, MediumError};
use crate::contract::{Subject, device_contract};
use crate::guest::Guest;

const SECTORS: u64 = 256;

fn medium() -> File {
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..SECTORS * 512)
        .map(|at| u8::try_from(at / 512 % 251).unwrap())
        .collect();
    file.write_all(&bytes).unwrap();
    file
}

fn disk(access: Access) -> (File, Guest) {
    let file = medium();
    let disk = Block::new(
        file.try_clone().unwrap(),
        access,
        "a serial that is too long",
    )
    .unwrap();
    let mut guest = Guest::new(disk);
    guest.start();
    (file, guest)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// Reads, and gives the status and the data.
fn read(guest: &mut Guest, sector: u64, lengths: &[usize]) -> (u8, Vec<u8>) {
    let answer = guest.exchange(0, &[&header(0, sector)], &[lengths, &[1]].concat());
    let mut bytes = answer.bytes;
    let status = bytes.pop().unwrap();
    if status == 0 {
        assert_eq!(answer.length as usize, bytes.len() + 1);
    }
    (status, bytes)
}

fn write(guest: &mut Guest, kind: u32, sector: u64, data: &[&[u8]]) -> u8 {
    let answer = guest.exchange(0, &[&[&header(kind, sector)[..]], data].concat(), &[1]);
    assert_eq!(answer.length, 1);
    answer.bytes[0]
}

/// The same disk, writable and not.
struct Writable(File);
struct ReadOnly(File);

impl Subject for Writable {
    type Device = Block;
    const EAGER: usize = 0;

    fn new() -> Self {
        Self(medium())
    }

    fn device(&mut self) -> Block {
        Block::new(self.0.try_clone().unwrap(), Access::Writable, "disk").unwrap()
    }

    fn exercise(&mut self, guest: &mut Guest) {
        let (_, before) = read(guest, 7, &[512]);
        let after: Vec<u8> = before.iter().map(|byte| byte.wrapping_add(1)).collect();
        assert_eq!(write(guest, 1, 7, &[&after]), 0);
        assert_eq!(write(guest, 4, 0, &[]), 0);
        assert_eq!(read(guest, 7, &[512]), (0, after));
    }
}

impl Subject for ReadOnly {
    type Device = Block;
    const EAGER: usize = 0;

    fn new() -> Self {
        Self(medium())
    }

    fn device(&mut self) -> Block {
        Block::new(self.0.try_clone().unwrap(), Access::ReadOnly, "disk").unwrap()
    }

    fn exercise(&mut self, guest: &mut Guest) {
        assert_eq!(read(guest, 7, &[512]), (0, vec![7; 512]));
        assert_eq!(write(guest, 1, 7, &[&[0; 512]]), 1);
    }
}

mod writable {
    use super::*;
    device_contract!(Writable);
}

mod read_only {
    use super::*;
    device_contract!(ReadOnly);
}

#[test]
fn tells_capacity_segments_and_features() {
    let (_, guest) = disk(Access::ReadOnly);
    let mut config = [0; 60];
    guest.slot.read(0x100, &mut config);
    assert_eq!(config[..8], SECTORS.to_le_bytes());
    assert_eq!(config[12..16], 126_u32.to_le_bytes());
    assert_eq!(
        guest.offered() & 0xffff_ffff,
        1 << 29 | 1 << 28 | 1 << 5 | 1 << 2
    );
    let (_, guest) = disk(Access::Writable);
    assert_eq!(guest.offered() & (1 << 5 | 1 << 9), 1 << 9);
    // Any width, and across the end.
    let mut byte = [0];
    guest.slot.read(0x101, &mut byte);
    assert_eq!(byte, [1]);
    let mut end = [0xaa; 8];
    guest.slot.read(0x100 + 46, &mut end);
    assert_eq!(end, [0; 8]);
}

#[test]
fn reads_into_many_segments() {
    let (_, mut guest) = disk(Access::ReadOnly);
    let (status, bytes) = read(&mut guest, 3, &[100, 412, 1024, 1, 511]);
    assert_eq!(status, 0);
    let expected = [[3; 512], [4; 512], [5; 512], [6; 512]].concat();
    assert_eq!(bytes, expected);
    // More than one chain's worth of direct descriptors holds.
    let (status, bytes) = read(&mut guest, 0, &[512; 120]);
    assert_eq!((status, bytes.len()), (0, 120 * 512));
    assert_eq!(bytes[119 * 512..], [119; 512]);
}

#[test]
fn header_and_status_may_be_cut_anywhere() {
    let (_, mut guest) = disk(Access::ReadOnly);
    let header = header(0, 9);
    let readable = [&header[..3], &header[3..9], &header[9..]];
    let answer = guest.exchange(0, &readable, &[513]);
    assert_eq!(answer.bytes, [&[9; 512][..], &[0]].concat());
}

#[test]
fn ranges_end_at_the_capacity() {
    let (_, mut guest) = disk(Access::Writable);
    assert_eq!(read(&mut guest, SECTORS - 1, &[512]).0, 0);
    for sector in [
        SECTORS,
        SECTORS + 1,
        u64::MAX,
        u64::MAX / 512,
        u64::MAX / 512 + 1,
    ] {
        assert_eq!(read(&mut guest, sector, &[512]).0, 1, "{sector}");
        assert_eq!(write(&mut guest, 1, sector, &[&[0; 512]]), 1, "{sector}");
    }
    assert_eq!(read(&mut guest, SECTORS - 1, &[1024]).0, 1);
    // Parts of sectors are none.
    assert_eq!(read(&mut guest, 0, &[100]).0, 1);
    assert_eq!(write(&mut guest, 1, 0, &[&[0; 100]]), 1);
    assert_eq!(read(&mut guest, 0, &[512]), (0, vec![0; 512]));
}

#[test]
fn a_read_only_medium_never_changes() {
    let (mut file, mut guest) = disk(Access::ReadOnly);
    let range = [&0_u64.to_le_bytes()[..], &8_u32.to_le_bytes(), &[0; 4]].concat();
    assert_eq!(write(&mut guest, 1, 0, &[&[0xff; 512]]), 1);
    assert_eq!(write(&mut guest, 11, 0, &[&range]), 2);
    assert_eq!(write(&mut guest, 13, 0, &[&range]), 2);
    assert_eq!(write(&mut guest, 4, 0, &[]), 2);
    let (mut now, mut then) = (Vec::new(), Vec::new());
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut now).unwrap();
    let mut other = medium();
    other.seek(SeekFrom::Start(0)).unwrap();
    other.read_to_end(&mut then).unwrap();
    assert!(now == then);
}

#[test]
fn gives_its_serial() {
    let (_, mut guest) = disk(Access::ReadOnly);
    let answer = guest.exchange(0, &[&header(8, 0)], &[20, 1]);
    assert_eq!(answer.bytes, b"a serial that is too\0");
    // Less room, less of it.
    let answer = guest.exchange(0, &[&header(8, 0)], &[4, 1]);
    assert_eq!(answer.bytes, b"a se\0");
}

#[test]
fn does_not_know_other_requests() {
    let (_, mut guest) = disk(Access::Writable);
    for kind in [2, 3, 5, 7, 12, 13, 14, u32::MAX] {
        assert_eq!(write(&mut guest, kind, 0, &[]), 2, "{kind}");
    }
    assert!(!guest.is_broken());
}

#[test]
fn a_request_without_room_for_its_status_breaks_the_device() {
    let (_, mut guest) = disk(Access::Writable);
    guest.offer(0, &[&header(0, 0)], &[]);
    guest.kick(0);
    assert!(guest.is_broken());
    guest.start();
    guest.offer(0, &[&header(0, 0)[..15]], &[513]);
    guest.kick(0);
    assert!(guest.is_broken());
}

#[test]
fn discards_what_the_range_says() {
    let (file, mut guest) = disk(Access::Writable);
    assert_eq!(
        guest.offered() & 1 << 13,
        1 << 13,
        "the file system of the temporary directory punches holes"
    );
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    let range = |sector: u64, sectors: u32, flags: u32| {
        [
            &sector.to_le_bytes()[..],
            &sectors.to_le_bytes(),
            &flags.to_le_bytes(),
        ]
        .concat()
    };
    let ranges = [range(64, 64, 0), range(200, 8, 0), range(0, 0, 0)].concat();
    assert_eq!(write(&mut guest, 11, 0, &[&ranges]), 0);
    assert!(file.metadata().unwrap().blocks() < before);
    assert_eq!(file.metadata().unwrap().len(), SECTORS * 512);
    let mut bytes = [0xff; 512];
    for (sector, value) in [
        (63, 63),
        (64, 0),
        (127, 0),
        (128, 128),
        (207, 0),
        (208, 208),
    ] {
        file.read_exact_at(&mut bytes, sector * 512).unwrap();
        assert_eq!(bytes, [value; 512], "{sector}");
    }
    assert_eq!(write(&mut guest, 11, 0, &[&range(SECTORS - 1, 2, 0)]), 1);
    assert_eq!(write(&mut guest, 11, 0, &[&range(u64::MAX, 2, 0)]), 1);
    assert_eq!(write(&mut guest, 11, 0, &[&range(0, 8, 1)]), 2);
    assert_eq!(write(&mut guest, 11, 0, &[&range(0, 8, 0)[..15]]), 1);
    assert_eq!(write(&mut guest, 11, 0, &[&range(0, 0, 0).repeat(65)]), 1);
}

#[test]
fn a_medium_that_shrank_fails_instead_of_reading_zeros() {
    let (file, mut guest) = disk(Access::Writable);
    file.set_len(512).unwrap();
    assert_eq!(read(&mut guest, 0, &[512]).0, 0);
    assert_eq!(read(&mut guest, 0, &[1024]).0, 1);
}

#[test]
fn a_medium_is_whole_sectors_and_keeps_its_size() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(513).unwrap();
    let result = Block::new(file, Access::ReadOnly, "");
    assert!(matches!(result, Err(MediumError::Length(513))));
    let (_, guest) = disk(Access::ReadOnly);
    let state = guest.slot.save().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(512).unwrap();
    let other = Guest::new(Block::new(file, Access::ReadOnly, "").unwrap());
    assert!(other.slot.restore(&state).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_writable_disk_is_what_was_last_written(
        writes in proptest::collection::vec((0..SECTORS, 1_usize..9, any::<u8>()), 0..20)
    ) {
        let (_, mut guest) = disk(Access::Writable);
        let mut model: Vec<u8> = (0..SECTORS).map(|sector| u8::try_from(sector % 251).unwrap()).collect();
        for (sector, count, value) in writes {
            let data = vec![value; count * 512];
            let (front, back) = data.split_at(count * 100);
            let status = write(&mut guest, 1, sector, &[front, back]);
            let place = usize::try_from(sector).unwrap();
            match model.get_mut(place..place + count) {
                Some(part) => { part.fill(value); prop_assert_eq!(status, 0) }
                None => prop_assert_eq!(status, 1),
            }
        }
        let (status, bytes) = read(&mut guest, 0, &[512 * 256]);
        prop_assert_eq!(status, 0);
        for (sector, value) in bytes.chunks(512).zip(model) {
            prop_assert_eq!(sector, &vec![value; 512]);
        }
    }
}

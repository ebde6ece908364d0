//! Pages that are reported free are gone, and no others.

use vm_memory::{Bytes, GuestAddress};

use super::Balloon;
use crate::contract::{Subject, device_contract};
use crate::guest::{Guest, WRITE};

const REPORT: usize = 2;
const PLACE: u64 = 8 << 20;

impl Subject for Balloon {
    type Device = Balloon;
    const EAGER: usize = REPORT;

    fn new() -> Self {
        Self::default()
    }

    fn device(&mut self) -> Balloon {
        Balloon::new()
    }

    fn exercise(&mut self, guest: &mut Guest) {
        fill(guest);
        guest.offer_buffers(
            REPORT,
            &[(PLACE, 8192, WRITE), (PLACE + 16384, 4096, WRITE)],
        );
        guest.kick(REPORT);
        assert_eq!(guest.take(REPORT).unwrap().length, 0);
        assert_eq!(pages(guest), [0, 0, 3, 4, 0, 6]);
    }
}

device_contract!(Balloon);

/// Gives each of some pages a number, from 1 on.
fn fill(guest: &Guest) {
    for page in 0..6 {
        let bytes = [page + 1; 4096];
        let at = GuestAddress(PLACE + u64::from(page) * 4096);
        guest.memory.write_slice(&bytes, at).unwrap();
    }
}

/// The number of each page, if it has the same one everywhere.
fn pages(guest: &Guest) -> [u8; 6] {
    let mut bytes = [0; 6 * 4096];
    guest
        .memory
        .read_slice(&mut bytes, GuestAddress(PLACE))
        .unwrap();
    let mut pages = [0; 6];
    for (number, page) in pages.iter_mut().zip(bytes.chunks(4096)) {
        *number = page[0];
        assert!(page.iter().all(|byte| *byte == page[0]));
    }
    pages
}

fn started() -> Guest {
    let mut guest = Guest::new(Balloon::new());
    guest.start();
    fill(&guest);
    guest
}

#[test]
fn parts_of_pages_stay() {
    let mut guest = started();
    for (offset, length) in [(1, 4095), (100, 8000), (4095, 2), (0, 4095), (0, 0)] {
        guest.offer_buffers(REPORT, &[(PLACE + offset, length, WRITE)]);
    }
    guest.offer_buffers(REPORT, &[(PLACE + 5 * 4096 - 1, 4098, WRITE)]);
    guest.kick(REPORT);
    assert_eq!(pages(&guest), [1, 2, 3, 4, 5, 0]);
}

#[test]
fn inflating_gives_the_named_pages_back() {
    let mut guest = started();
    let first = u32::try_from(PLACE / 4096).unwrap();
    let numbers = [first + 1, first + 3, 0x10_0000 - 1, u32::MAX, 0x4_0000]
        .map(u32::to_le_bytes)
        .concat();
    guest.exchange(0, &[&numbers], &[]);
    assert_eq!(pages(&guest), [1, 0, 3, 0, 5, 6]);
    guest.exchange(1, &[&numbers], &[]);
    assert_eq!(pages(&guest), [1, 0, 3, 0, 5, 6]);
    assert!(!guest.is_broken());
}

#[test]
fn inflating_is_bounded() {
    let mut guest = started();
    let first = u32::try_from(PLACE / 4096).unwrap();
    let numbers = [&[0; 1024][..], &first.to_le_bytes()].concat();
    guest.exchange(0, &[&numbers], &[]);
    assert_eq!(pages(&guest), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_driver_says_how_many_pages_it_gave() {
    let guest = started();
    guest.write(0x104, 77);
    guest.write(0x100, 5);
    guest.slot.write(0x106, &[9]);
    assert_eq!((guest.read(0x100), guest.read(0x104)), (0, 77));
    let state = guest.slot.save().unwrap();
    let other = Guest::new(Balloon::new());
    other.slot.restore(&state).unwrap();
    assert_eq!(other.read(0x104), 77);
}

//! A hostile guest made of bytes: they pick a device and say what guest and host do with it. For the fuzz target `devices`, whose
//! corpus the tests replay. Refuses to know what is right: nothing may panic, and a reset must always help.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "guest and host made for tests may panic"
)]

mod targets;
#[cfg(test)]
mod tests;

use vm_memory::{Bytes, GuestAddress};

use self::targets::{Card, Disk, Files, Pages, Random, Sockets, Target, Terminal, Volume};
use crate::guest::{Guest, REGIONS, WRITE};

/// Most steps of one run.
const STEPS: usize = 256;
/// Where descriptors that are made up point, and where made-up data goes.
const BUFFER: u64 = 0x90000;

/// Runs one sequence of steps.
pub fn devices(bytes: &[u8]) {
    let mut input = Input(bytes);
    let device = input.byte();
    if device == 6 {
        return run(Card::new(), input);
    }
    if device == 7 {
        return run(Volume::new(input.byte()), input);
    }
    if device >= 0xf0 {
        return run(Files::new(), input);
    }
    match device % 6 {
        0 => run(Random, input),
        1 => run(Disk::read_only(), input),
        2 => run(Disk::writable(), input),
        3 => run(Terminal::new(), input),
        4 => run(Sockets::new(), input),
        _ => run(Pages, input),
    }
}

fn run<T: Target>(mut target: T, mut input: Input<'_>) {
    let mut guest = Guest::new(target.device());
    for _ in 0..STEPS {
        if input.0.is_empty() {
            break;
        }
        step(&mut target, &mut guest, &mut input);
        // A machine gives others their turn here; a run gives up some of the device's work instead.
        guest.told.again.lock().unwrap().clear();
    }
    guest.start();
    assert_eq!(guest.read(0x70), 15, "a reset did not help");
    target.end();
}

fn step<T: Target>(target: &mut T, guest: &mut Guest, input: &mut Input<'_>) {
    let queue = |input: &mut Input<'_>| usize::from(input.byte()) % T::QUEUES;
    match input.byte() % 14 {
        1..=6 | 8..=10 if !T::RAW => target.act(guest, input),
        0 => guest.start(),
        1 => guest.write(0x70, input.byte().into()),
        2 => guest.write(u64::from(input.byte()) * 4, input.word()),
        3 => {
            let offset = u64::from(input.half());
            guest.slot.write(offset, input.bytes());
        }
        4 => {
            let offset = u64::from(input.half());
            guest.slot.read(offset, &mut vec![0; input.bytes().len()]);
        }
        5 => {
            let (queue, index) = (queue(input), u64::from(input.byte()) % 32);
            let (address, length) = (input.address(), input.length());
            let (flags, next) = (input.byte(), input.byte());
            if !guest.is_set_up() {
                return;
            }
            // The first of the table, or a table of its own for indirect ones.
            let table = match flags & 0x80 {
                0 => guest.rings(queue),
                _ => BUFFER,
            };
            let flags = u16::from(flags & 7);
            guest.write_descriptor(table + index * 16, address, length, flags, next.into());
        }
        6 => {
            let (queue, head) = (queue(input), input.byte());
            if guest.is_set_up() {
                guest.publish(queue, head.into());
            }
        }
        7 => guest.slot.kick(queue(input)),
        8 => {
            let address = input.address();
            // Outside memory nothing is written.
            let _ = guest.memory.write(input.bytes(), GuestAddress(address));
        }
        9 => {
            let (queue, length) = (queue(input), input.half());
            if guest.may_offer(queue, 1) {
                let address = guest.buffer(length.into());
                guest.offer_buffers(queue, &[(address, length.into(), WRITE)]);
            }
        }
        10 => {
            let queue = queue(input);
            let bytes = input.bytes();
            let room = input.byte();
            if guest.may_offer(queue, 2) {
                guest.offer(queue, &[bytes], &[room.into()]);
            }
        }
        11 => guest.slot.host_ready(),
        12 => {
            let mut state = guest.slot.save().unwrap();
            let (at, change) = (usize::from(input.byte()), input.byte());
            if let Some(byte) = state.get_mut(at) {
                *byte ^= change;
            }
            if input.byte() & 1 == 0 {
                guest.move_to(target.device());
            }
            let restored = guest.slot.restore(&state);
            assert!(restored.is_ok() || change != 0, "{restored:?}");
        }
        _ => target.act(guest, input),
    }
}

/// Bytes that say what happens; zeros once they are used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }

    /// Some bytes, at most 255.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (front, back) = self.0.split_at(length);
        self.0 = back;
        front
    }

    /// An address where it is worth pointing: buffers, rings, around the ends of regions, or anywhere.
    fn address(&mut self) -> u64 {
        let (kind, offset) = (self.byte(), u64::from(self.half()));
        match kind % 8 {
            0 => offset,
            kind @ 1..=3 => {
                let (start, length) = REGIONS[usize::from(kind) - 1];
                start + length as u64 + offset - 0x8000
            }
            4 => u64::MAX - offset,
            5 => u64::from(self.word()) << 32 | offset,
            _ => BUFFER + offset,
        }
    }

    fn length(&mut self) -> u32 {
        match self.byte() {
            0xff => u32::MAX,
            0xfe => self.word(),
            0xfd => u32::from(self.half()),
            length => length.into(),
        }
    }
}

//! A virtio device behind its registers (virtio 1.2 §4.2.2), set up as it wants to be or otherwise. Refuses to know what its
//! requests mean.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::random::Random;
use crate::sys;

/// First window, and how far they are apart.
pub(crate) const DEVICES: u64 = 0xd000_0000;
pub(crate) const WINDOW: u64 = 0x1000;
/// Where the devices' rings and buffers are: a mebibyte each, a sixteenth of it for each of the queues.
const AREAS: u64 = 16 << 20;
const AREA: u64 = 1 << 20;
const QUEUE: u64 = AREA / 16;
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x8000;
/// Most queues of a device.
const QUEUES: u64 = 3;

const ID: u64 = 0x8;
const NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
/// Where the registers are, to be hit more often than what lies between.
const REGISTERS: [u64; 24] = [
    0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70,
    0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xfc, 0x100,
];

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

/// The sizes of queues, as they were set up.
static SIZES: [[AtomicU64; QUEUES as usize]; 19] =
    [const { [const { AtomicU64::new(1) }; QUEUES as usize] }; 19];

#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) number: u64,
}

/// A part of a request: where, how long, and whether the device writes it.
pub(crate) type Part = (u64, u32, bool);

impl Device {
    fn window(self) -> u64 {
        DEVICES + self.number * WINDOW
    }

    fn set(self, register: u64, value: u32) {
        sys::write(self.window() + register, value);
    }

    pub(crate) fn get(self, register: u64) -> u32 {
        sys::read(self.window() + register)
    }

    pub(crate) fn id(self) -> u32 {
        self.get(ID)
    }

    pub(crate) fn is_up(self) -> bool {
        self.get(STATUS) == 15
    }

    fn rings(self, queue: u64) -> u64 {
        AREAS + self.number * AREA + queue * QUEUE
    }

    /// Memory for what is sent, half of the device's.
    pub(crate) fn buffers(self) -> u64 {
        AREAS + self.number * AREA + AREA / 2
    }

    fn size(self, queue: u64) -> u64 {
        SIZES[self.number as usize][queue as usize].load(Ordering::Relaxed)
    }

    /// As a driver should; in anger, not quite.
    pub(crate) fn bring_up(self, calm: bool, random: &mut Random) -> u64 {
        let steps = [0, 1, 3];
        steps.iter().for_each(|step| self.set(STATUS, *step));
        for half in 0..2 {
            self.set(0x14, half);
            let mut features = self.get(0x10);
            if !calm && random.once_in(4) {
                features &= random.next() as u32 | half;
            }
            self.set(0x24, half);
            self.set(0x20, features);
        }
        self.set(STATUS, 11);
        let mut count = 0;
        for queue in 0..QUEUES {
            self.set(0x30, queue as u32);
            let most = u64::from(self.get(0x34));
            if most == 0 {
                break;
            }
            let size = match !calm && random.once_in(3) {
                true => 1 << random.below(most.ilog2().into()),
                false => most,
            };
            SIZES[self.number as usize][queue as usize].store(size, Ordering::Relaxed);
            self.set(0x38, size as u32);
            let rings = self.rings(queue);
            for byte in (0..QUEUE).step_by(8) {
                sys::write::<u64>(rings + byte, 0);
            }
            for (register, offset) in [(0x80, 0), (0x90, AVAILABLE), (0xa0, USED)] {
                let address = match !calm && random.once_in(100) {
                    true => random.address(),
                    false => rings + offset,
                };
                self.set(register, address as u32);
                self.set(register + 4, (address >> 32) as u32);
            }
            self.set(0x44, 1);
            count += 10;
        }
        self.set(STATUS, 15);
        count + 13
    }

    pub(crate) fn write_register(self, random: &mut Random) -> u64 {
        let offset = offset(random);
        let value = random.word();
        let place = self.window() + offset;
        match random.below(8) {
            0 => sys::write(place, value as u8),
            1 => sys::write(place, value as u16),
            2 => sys::write(place, u64::from(value) << 32 | random.next()),
            // A reset or a change of status costs a set-up: more rarely than others.
            _ if offset == STATUS && !random.once_in(16) => return 0,
            _ => sys::write(place, value),
        }
        1
    }

    pub(crate) fn read_register(self, random: &mut Random) -> u64 {
        let place = self.window() + offset(random);
        match random.below(8) {
            0 => drop(sys::read::<u8>(place)),
            1 => drop(sys::read::<u16>(place)),
            2 => drop(sys::read::<u64>(place)),
            _ => drop(sys::read::<u32>(place)),
        }
        1
    }

    fn describe(self, queue: u64, index: u64, (address, length, _): Part, flags: u16, next: u16) {
        let place = self.rings(queue) + index * 16;
        sys::write(place, address);
        sys::write(place + 8, length);
        sys::write(place + 12, flags);
        sys::write(place + 14, next);
    }

    /// Any descriptor, under the eyes of a device that may be reading it.
    pub(crate) fn descriptor(self, random: &mut Random) -> u64 {
        let queue = random.below(QUEUES);
        let size = self.size(queue);
        let index = random.below(size + 1);
        let (address, length) = (random.address(), random.length());
        let flags = random.below(8) as u16;
        let next = random.below(size + 2) as u16;
        self.describe(queue, index, (address, length, false), flags, next);
        1
    }

    fn make_available(self, queue: u64, head: u16, jump: u16) {
        let ring = self.rings(queue) + AVAILABLE;
        let index: u16 = sys::read(ring + 2);
        sys::write(ring + 4 + u64::from(index) % self.size(queue) * 2, head);
        fence(Ordering::SeqCst);
        sys::write(ring + 2, index.wrapping_add(jump));
    }

    pub(crate) fn kick(self, queue: u64) {
        self.set(NOTIFY, queue as u32);
    }

    /// Offers a chain that may be any, the index sometimes leaping or going back.
    pub(crate) fn publish(self, random: &mut Random) -> u64 {
        let queue = random.below(QUEUES);
        let head = random.below(self.size(queue) + 1) as u16;
        let jump = match random.once_in(20) {
            true => random.next() as u16,
            false => 1,
        };
        self.make_available(queue, head, jump);
        if random.once_in(2) {
            self.kick(queue);
        }
        2
    }

    pub(crate) fn flood(self, random: &mut Random) -> u64 {
        let count = random.below(64);
        for _ in 0..count {
            self.kick(random.below(QUEUES + 1));
        }
        count
    }

    /// Takes everything back, and kicks all the same.
    pub(crate) fn reset(self, random: &mut Random) -> u64 {
        self.set(STATUS, 0);
        self.kick(random.below(QUEUES));
        2
    }

    /// Anything into the rings.
    pub(crate) fn scribble(self, random: &mut Random) -> u64 {
        let place = self.rings(random.below(QUEUES)) + random.below(QUEUE / 8) * 8;
        sys::write(place, random.next() << random.below(24));
        1
    }

    /// A chain of these parts, well-formed but for what the other processor does to it. `place` tells chains apart that
    /// are under way at a time.
    pub(crate) fn offer(self, queue: u64, place: u64, parts: &[Part]) -> u64 {
        let size = self.size(queue);
        let count = parts.len() as u64;
        if count > size {
            return 0;
        }
        let head = place * 4 % size;
        for (index, part) in (0..).zip(parts) {
            let flags = if part.2 { WRITE } else { 0 };
            let last = index + 1 == count;
            let flags = flags | if last { 0 } else { NEXT };
            let next = ((head + index + 1) % size) as u16;
            self.describe(queue, (head + index) % size, *part, flags, next);
        }
        self.make_available(queue, head as u16, 1);
        self.kick(queue);
        count + 1
    }

    /// Gives the device time to answer all it was offered, within reason: reading a register lets the host do other things.
    pub(crate) fn wait(self, queue: u64) {
        let rings = self.rings(queue);
        for _ in 0..30 {
            if sys::read::<u16>(rings + USED + 2) == sys::read::<u16>(rings + AVAILABLE + 2) {
                return;
            }
            self.get(STATUS);
        }
    }
}

fn offset(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.below(WINDOW),
        1 => 0x100 + random.below(64),
        _ => random.pick(&REGISTERS),
    }
}

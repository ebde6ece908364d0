//! Requests in each device's language: FUSE, vsock, Ethernet, blocks and pages, nearly right. Refuses to know rings.

mod fuse;
mod packets;

use self::fuse::Known;
use crate::device::{Device, Part};
use crate::random::Random;
use crate::sys;

const NET: u32 = 1;
const BLOCK: u32 = 2;
const ENTROPY: u32 = 4;
const BALLOON: u32 = 5;
const VSOCK: u32 = 19;
const FILES: u32 = 26;

/// Room for a request, and behind it for its answer.
const ROOM: u64 = 0x4000;
const ANSWER: u64 = 0x2000;
/// Requests of one processor that have buffers of their own at a time.
const SLOTS: u64 = 16;

pub(crate) struct Requests {
    processor: u32,
    /// Whether to send what the host's end of the agent protocol takes for a broken guest.
    lies: bool,
    turn: u64,
    known: Known,
}

/// Bytes on their way into guest memory.
pub(crate) struct Bytes {
    start: u64,
    length: u64,
}

impl Bytes {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.length < ANSWER {
                sys::write(self.start + self.length, *byte);
                self.length += 1;
            }
        }
    }

    pub(crate) fn half(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn word(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn long(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn garbage(&mut self, length: u64, random: &mut Random) {
        for _ in 0..length / 8 {
            self.long(random.next() << random.below(40));
        }
    }

    pub(crate) fn length(&self) -> u32 {
        self.length as u32
    }

    /// Writes at a place that was passed before.
    pub(crate) fn amend(&self, place: u64, bytes: &[u8]) {
        for (byte, place) in bytes.iter().zip(place..) {
            sys::write(self.start + place, *byte);
        }
    }

    fn part(&self) -> Part {
        (self.start, self.length(), false)
    }
}

impl Requests {
    pub(crate) fn new(processor: u32, lies: bool) -> Self {
        let (turn, known) = (0, Known::new());
        Self {
            processor,
            lies,
            turn,
            known,
        }
    }

    /// What a device wants to hear first.
    pub(crate) fn greet(&mut self, device: Device, random: &mut Random) -> u64 {
        if device.id() != FILES {
            return 0;
        }
        self.known = Known::new();
        let firsts: [fn(&mut Bytes); 3] = [
            fuse::init,
            |bytes| fuse::look(bytes, b"0"),
            |bytes| fuse::look(bytes, b"1"),
        ];
        let mut steps = 0;
        for first in firsts {
            let mut bytes = self.next(device);
            first(&mut bytes);
            steps += device.offer(1, self.turn, &split(&bytes, true, random));
            device.wait(1);
            self.known.learn(bytes.start + ANSWER, random);
        }
        steps
    }

    fn next(&mut self, device: Device) -> Bytes {
        self.turn = (self.turn + 1) % SLOTS;
        let half = u64::from(self.processor % 2) * SLOTS;
        let start = device.buffers() + (half + self.turn) * ROOM;
        Bytes { start, length: 0 }
    }

    /// Sends something to a device; so many steps.
    pub(crate) fn send(&mut self, device: Device, calm: bool, random: &mut Random) -> u64 {
        let mut bytes = self.next(device);
        let start = bytes.start;
        let answer = |length: u64| (start + ANSWER, length as u32, true);
        let some = random.below(ANSWER);
        let place = match calm {
            true => self.turn,
            false => random.next(),
        };
        match device.id() {
            FILES => {
                let queue = u64::from(!random.once_in(8));
                if calm {
                    device.wait(queue);
                }
                // What was written here last time is the answer to an older request.
                self.known.learn(start + ANSWER, random);
                fuse::request(&mut bytes, &self.known, random);
                device.offer(queue, place, &split(&bytes, calm, random))
            }
            VSOCK if random.once_in(4) => device.offer(0, place, &[answer(some)]),
            VSOCK => {
                packets::vsock(&mut bytes, self.lies, random);
                device.offer(1, place, &[bytes.part()])
            }
            NET if random.once_in(3) => device.offer(0, place, &[answer(some)]),
            NET => {
                packets::frame(&mut bytes, device, random);
                device.offer(1, place, &[bytes.part()])
            }
            BLOCK => {
                bytes.word(random.pick(&[0, 0, 0, 1, 4, 8, 11, 13, 99]));
                bytes.word(0);
                bytes.long(match random.below(4) {
                    0 => random.next() << random.below(40),
                    _ => random.below(4096),
                });
                let data = match random.below(4) {
                    0 if !calm => (random.address(), random.length(), random.once_in(2)),
                    _ => (start + ANSWER, (some / 512 * 512) as u32, true),
                };
                let status = (start + ROOM - 1, 1, true);
                device.offer(0, place, &[bytes.part(), data, status])
            }
            ENTROPY => device.offer(0, place, &[answer(some), answer(16)]),
            BALLOON => {
                // Pages that may be given up, and what is none.
                let page = (48 << 20) + random.below(4096) * 4096;
                let part = match random.once_in(2) && !calm {
                    true => (random.address(), random.length(), true),
                    false => (page, 4096 << random.below(10), true),
                };
                device.offer(random.below(3), place, &[part])
            }
            _ => {
                bytes.garbage(some, random);
                device.offer(random.below(2), place, &[bytes.part(), answer(some)])
            }
        }
    }
}

/// A request's header and the rest of it apart, and room for a whole answer in two pieces.
fn split(bytes: &Bytes, calm: bool, random: &mut Random) -> [Part; 4] {
    let start = bytes.start;
    let front = match !calm && random.once_in(8) {
        true => random.below(bytes.length + 1),
        false => bytes.length.min(40),
    };
    [
        (start, front as u32, false),
        (start + front, (bytes.length - front) as u32, false),
        (start + ANSWER, 16, true),
        (start + ANSWER + 16, (ROOM - ANSWER - 16) as u32, true),
    ]
}

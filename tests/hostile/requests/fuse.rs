//! FUSE (`include/uapi/linux/fuse.h`): every operation, with names that lead out and numbers that were answered before.

use super::Bytes;
use crate::random::Random;
use crate::sys;

/// What follows the header: `W` a word, `L` a long, `N` a name, `D` data.
const OPERATIONS: [(u32, &[u8]); 42] = [
    (1, b"N"),
    (2, b"L"),
    (3, b"WWL"),
    (4, b"WWLLLLLLWWWWWWWW"),
    (5, b""),
    (6, b"NN"),
    (8, b"WWWWN"),
    (9, b"WWN"),
    (10, b"N"),
    (11, b"N"),
    (12, b"LNN"),
    (13, b"LN"),
    (14, b"WW"),
    (15, b"LLWWLWW"),
    (16, b"LLWWLWWD"),
    (17, b""),
    (18, b"LWWL"),
    (20, b"LWW"),
    (21, b"WWNN"),
    (22, b"WWN"),
    (23, b"WW"),
    (24, b"N"),
    (25, b"LWWL"),
    (27, b"WW"),
    (28, b"LLWWLWW"),
    (29, b"LWWL"),
    (30, b"LWW"),
    (31, b"LLLLWWL"),
    (34, b"WW"),
    (35, b"WWWWN"),
    (36, b"L"),
    (37, b"LWW"),
    (39, b"LWWLWW"),
    (40, b"LLWW"),
    (42, b"WWLLLL"),
    (43, b"LLLWW"),
    (44, b"LLWWLWW"),
    (45, b"LWWNN"),
    (46, b"LLWW"),
    (47, b"LLLLLLL"),
    (50, b"L"),
    (51, b"WWWWN"),
];
const LOOKUP: u32 = 1;
const INIT: u32 = 26;

/// Ways out, ways nowhere, and what is there.
const NAMES: [&[u8]; 24] = [
    b"0",
    b"1",
    b"0",
    b"1",
    b"a",
    b"b",
    b"file",
    b"link",
    b"up",
    b"root",
    b"..",
    b".",
    b"",
    b"../outside",
    b"../../outside/canary",
    b"/etc/passwd",
    b"a/b",
    b"link/canary",
    b"up/outside",
    b"/proc/self/fd/0",
    b"\xff\xfe\x01",
    b"canary",
    b"security.capability",
    b"user.x",
];

/// Numbers of nodes and handles are small; what else an answer begins with tends to be larger.
const MOST: u64 = 1 << 20;

/// Numbers of nodes and handles that answers have named.
pub(super) struct Known {
    numbers: [u64; 8],
}

impl Known {
    /// The first node after the root, whatever it is.
    pub(super) fn new() -> Self {
        Self { numbers: [2; 8] }
    }

    /// Keeps what may be a node or a handle in an answer.
    pub(super) fn learn(&mut self, answer: u64, random: &mut Random) {
        let number: u64 = sys::read(answer + 16);
        let error: u32 = sys::read(answer + 4);
        if error == 0 && (1..MOST).contains(&number) {
            self.numbers[random.below(8) as usize] = number;
        }
    }

    fn some(&self, random: &mut Random) -> u64 {
        match random.below(8) {
            0 => random.below(64),
            1 => random.next() << random.below(40),
            2 => random.pick(&[0, 1, u64::MAX, 1 << 63, (1 << 63) - 1]),
            _ => random.pick(&self.numbers),
        }
    }
}

/// The first request of all.
pub(super) fn init(bytes: &mut Bytes) {
    header(bytes, INIT, 0);
    for word in [7, 38, 1 << 20, u32::MAX, u32::MAX] {
        bytes.word(word);
    }
    bytes.put(&[0; 44]);
    end(bytes, None);
}

/// Asks for an entry of the device's root.
pub(super) fn look(bytes: &mut Bytes, name: &[u8]) {
    header(bytes, LOOKUP, 1);
    bytes.put(name);
    bytes.put(&[0]);
    end(bytes, None);
}

fn header(bytes: &mut Bytes, operation: u32, node: u64) {
    bytes.word(0);
    bytes.word(operation);
    bytes.long(1);
    bytes.long(node);
    bytes.put(&[0; 16]);
}

/// Says the length.
fn end(bytes: &mut Bytes, length: Option<u32>) {
    let length = length.unwrap_or(bytes.length());
    bytes.amend(0, &length.to_le_bytes());
}

/// Any request, in most cases of the length it says.
pub(super) fn request(bytes: &mut Bytes, known: &Known, random: &mut Random) {
    if random.once_in(400) {
        return init(bytes);
    }
    let (operation, fields) = match random.below(24) {
        0 => (random.word(), &b"LLLL"[..]),
        1..=5 => (LOOKUP, &b"N"[..]),
        _ => random.pick(&OPERATIONS),
    };
    let node = match operation {
        LOOKUP if random.once_in(4) => 1,
        _ => known.some(random),
    };
    header(bytes, operation, node);
    if random.once_in(8) {
        bytes.amend(24, &random.word().to_le_bytes());
    }
    for field in fields {
        match field {
            b'W' => bytes.word(random.word()),
            b'L' => bytes.long(known.some(random)),
            b'D' => {
                let length = random.below(4096);
                bytes.garbage(length, random);
            }
            _ => name(bytes, random),
        }
    }
    if random.once_in(32) {
        let length = random.below(64);
        bytes.garbage(length, random);
    }
    let length = random.once_in(32).then(|| random.length());
    end(bytes, length);
}

fn name(bytes: &mut Bytes, random: &mut Random) {
    match random.below(32) {
        0 => (0..random.below(400)).for_each(|_| bytes.put(b"x")),
        1 => bytes.long(random.next()),
        _ => bytes.put(random.pick(&NAMES)),
    }
    // A name without an end now and then.
    if !random.once_in(32) {
        bytes.put(&[0]);
    }
}

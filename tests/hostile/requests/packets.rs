//! Packets: those of the socket device (virtio 1.2 §5.10.6), and frames of a network card. No frame is addressed to anybody but
//! the network's own places and a network that is for documentation (RFC 5737), for the host may have an Internet.

use super::Bytes;
use crate::device::Device;
use crate::random::Random;

/// Where the host listens.
const AGENT: u32 = 1024;
const REQUEST: u16 = 1;
const DATA: u16 = 5;

/// A packet of a guest that takes part in connections, more or less. Only one that lies sends data to the agent's port.
pub(super) fn vsock(bytes: &mut Bytes, lies: bool, random: &mut Random) {
    let operation = match random.below(8) {
        0 => random.next() as u16,
        1 | 2 => REQUEST,
        3 | 4 => DATA,
        _ => random.below(9) as u16,
    };
    let target = match random.below(4) {
        0 => AGENT,
        1 => random.word(),
        _ => 1025 + random.below(4) as u32,
    };
    let length = match (operation, target) {
        (DATA, AGENT) if !lies => 0,
        (DATA, _) => random.below(4096) / 8 * 8,
        _ => 0,
    };
    bytes.long(if random.once_in(16) { random.next() } else { 3 });
    bytes.long(if random.once_in(16) { random.next() } else { 2 });
    bytes.word(random.below(64) as u32);
    bytes.word(target);
    bytes.word(match random.once_in(16) {
        true if lies || target != AGENT => random.length(),
        _ => length as u32,
    });
    bytes.half(if random.once_in(16) {
        random.next() as u16
    } else {
        1
    });
    bytes.half(operation);
    bytes.word(random.below(4) as u32);
    bytes.word(random.word());
    bytes.word(random.word());
    bytes.garbage(length, random);
}

/// A frame behind virtio's own header: ARP, IPv4 with ICMP, UDP (DNS among it) and TCP, IPv6, or whatever.
pub(super) fn frame(bytes: &mut Bytes, device: Device, random: &mut Random) {
    for _ in 0..6 {
        bytes.half(if random.once_in(8) {
            random.word() as u16
        } else {
            0
        });
    }
    bytes.garbage(8, random);
    bytes.amend(12, &[0x52, 0x55, 10, 0, 2, 2, 0, 0]);
    // Our own address is in the device's configuration.
    let own = [
        device.get(0x100).to_le_bytes(),
        device.get(0x104).to_le_bytes(),
    ];
    bytes.amend(18, &own[0][..2]);
    bytes.put(&[own[0][2], own[0][3], own[1][0], own[1][1]]);
    match random.below(8) {
        0 => {
            bytes.put(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + random.below(2) as u8]);
            bytes.garbage(24, random);
        }
        1 => {
            bytes.put(&[0x86, 0xdd, 0x60, 0, 0, 0, 0]);
            bytes.put(&[random.next() as u8, random.pick(&[6, 17, 58, 0, 44]), 64]);
            bytes.garbage(64, random);
        }
        2 => {
            let length = random.below(2000);
            bytes.garbage(length, random);
        }
        _ => internet(bytes, random),
    }
}

fn internet(bytes: &mut Bytes, random: &mut Random) {
    let protocol: u8 = random.pick(&[1, 6, 6, 6, 17, 17, 2]);
    let data = random.below(1200);
    let length = match random.once_in(16) {
        true => random.next() as u16,
        false => (40 + data / 8 * 8) as u16,
    };
    let [high, low] = length.to_be_bytes();
    let version = if random.once_in(16) {
        random.next() as u8
    } else {
        0x45
    };
    bytes.put(&[8, 0, version, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0]);
    bytes.put(&[
        10,
        0,
        2,
        if random.once_in(16) {
            random.next() as u8
        } else {
            15
        },
    ]);
    bytes.put(match random.below(4) {
        0 => &[10, 0, 2, 2],
        1 => &[127, 0, 0, 1],
        2 => &[169, 254, 1, 1],
        _ => &[192, 0, 2, 1],
    });
    // Ports; sequence numbers, or a UDP length; header length, flags, window.
    bytes.half(u16::to_be(1000 + random.below(8) as u16));
    bytes.half(u16::to_be(random.pick(&[53, 80, 0, 1024])));
    match protocol {
        6 => {
            bytes.word(random.word());
            bytes.word(random.word());
            bytes.put(&[0x50, random.next() as u8]);
            bytes.half(random.next() as u16);
        }
        _ => {
            bytes.half(u16::to_be((8 + 12 + data / 8 * 8) as u16));
            bytes.half(0);
            bytes.long(random.next());
        }
    }
    bytes.word(0);
    bytes.garbage(data, random);
}

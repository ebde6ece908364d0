//! A pair of sockets that keep messages apart is the device here: what a guest sends comes out of it as it is, and the other way.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vm_memory::VolatileSlice;

use super::*;

const ALL: Offload = Offload {
    checksum: true,
    segments: true,
};
/// TCP's over IPv4: checksum from byte 34 on at 16, pieces of 1,000 bytes behind headers of 54.
const LEFT_TO_OTHERS: [u8; HEADER] = [1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 0, 0];

fn tap() -> (Tap, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (device, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Tap::new(device, None).unwrap(), other)
}

fn transmit(tap: &mut Tap, header: [u8; HEADER], frame: &[u8]) {
    let mut frame = frame.to_vec();
    let slice = VolatileSlice::from(&mut frame[..]);
    tap.transmit(header, Reader::from(slice));
}

fn receive(tap: &mut Tap, offload: Offload, room: usize) -> Option<(Received, Vec<u8>)> {
    tap.ready();
    tap.next(offload)?;
    let mut bytes = vec![0; room];
    let slice = VolatileSlice::from(&mut bytes[..]);
    let received = tap.receive(&mut Writer::from(slice), offload)?;
    bytes.truncate(received.length);
    Some((received, bytes))
}

fn out(other: &OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 1 << 17];
    let length = rustix::io::read(other, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

#[test]
fn frames_pass_as_they_are_with_what_is_left_to_others() {
    let (mut tap, other) = tap();
    let frame: Vec<u8> = (0..4000_u32).map(|n| n.to_le_bytes()[0]).collect();
    transmit(&mut tap, LEFT_TO_OTHERS, &frame);
    let message = [&LEFT_TO_OTHERS[..], &frame].concat();
    assert_eq!(out(&other).unwrap(), message);
    rustix::io::write(&other, &message).unwrap();
    let (received, bytes) = receive(&mut tap, ALL, 1 << 16).unwrap();
    assert_eq!(bytes, frame);
    assert_eq!(received.checksum, Some((34, 16)));
    assert_eq!(received.segments, Some((1000, 54, false)));
    assert_eq!(
        (tap.journal.counts.sent, tap.journal.counts.received),
        (4000, 4000)
    );
    assert!(receive(&mut tap, ALL, 1 << 16).is_none());
}

#[test]
fn headers_and_lengths_that_no_frame_has_go_nowhere() {
    let (mut tap, other) = tap();
    for kind in [2, 3, 5, 0x7f, 0xff] {
        transmit(&mut tap, [0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 60]);
    }
    for flags in [2, 4, 0x80] {
        transmit(&mut tap, [flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 60]);
    }
    transmit(&mut tap, [0; HEADER], &[0; ETHERNET_LENGTH - 1]);
    transmit(&mut tap, [0; HEADER], &vec![0; MOST + 1]);
    assert_eq!(out(&other), None);
    // And from the device: too short, of a kind that nobody knows, and with a checksum beyond its end.
    rustix::io::write(&other, &[0; 20]).unwrap();
    rustix::io::write(&other, &[[0, 2].as_slice(), &[0; 70]].concat()).unwrap();
    let beyond = [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
    rustix::io::write(&other, &[&beyond[..], &[0; 60]].concat()).unwrap();
    for _ in 0..3 {
        assert!(receive(&mut tap, Offload::default(), 1 << 16).is_none());
    }
    rustix::io::write(&other, &[&[0; HEADER][..], &[7; 60]].concat()).unwrap();
    assert_eq!(receive(&mut tap, ALL, 1 << 16).unwrap().1, [7; 60]);
}

#[test]
fn checksums_are_made_for_a_guest_that_wants_them() {
    let (mut tap, other) = tap();
    // The field has the sum over the pseudo header, here 0x1234, and the rest is zeros.
    let mut frame = [0; 60];
    frame[50..52].copy_from_slice(&[0x12, 0x34]);
    let header = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    rustix::io::write(&other, &[&header[..], &frame].concat()).unwrap();
    let (received, bytes) = receive(&mut tap, Offload::default(), 1 << 16).unwrap();
    assert_eq!(received.checksum, None);
    assert_eq!(bytes[50..52], [!0x12, !0x34]);
}

#[test]
fn a_frame_that_finds_no_room_is_lost_and_so_is_one_that_nobody_takes() {
    let (mut tap, other) = tap();
    for byte in [1, 2] {
        rustix::io::write(&other, &[&[0; HEADER][..], &[byte; 100]].concat()).unwrap();
    }
    assert!(receive(&mut tap, ALL, 50).is_none());
    assert_eq!(receive(&mut tap, ALL, 1 << 16).unwrap().1, [2; 100]);
    // The socket takes so many and then none; the guest does not wait for it.
    for _ in 0..10_000 {
        transmit(&mut tap, [0; HEADER], &[0; 1000]);
    }
    let mut taken = 0;
    while out(&other).is_some() {
        taken += 1;
    }
    assert!((1..10_000).contains(&taken), "{taken}");
    transmit(&mut tap, [0; HEADER], &[3; 100]);
    assert_eq!(out(&other).unwrap()[HEADER..], [3; 100]);
}

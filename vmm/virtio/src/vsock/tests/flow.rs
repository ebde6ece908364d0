//! Credit and ends: who stalls holds up nobody else and loses nothing.

use std::collections::VecDeque;
use std::net::Shutdown;

use proptest::prelude::*;
use rustix::event::PollFlags;

use super::super::connection::CAPACITY;
use super::super::packet::operation::{CREDIT_REQUEST, CREDIT_UPDATE};
use super::*;
use crate::VirtioDevice;
use crate::poll::is_ready;

/// Bytes that show where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

fn shutdown(flags: u32) -> Packet {
    Packet {
        flags,
        ..packet(SHUTDOWN, 1, 80)
    }
}

#[test]
fn the_host_may_stop_sending_and_go_on_receiving() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    guest.host_ready();
    assert_eq!(receive(&mut guest).unwrap().data, b"last words");
    let end = receive(&mut guest).unwrap();
    assert_eq!((end.operation, end.flags), (SHUTDOWN, 2));
    send(&mut guest, &data(1, 80, b"still here"));
    assert_eq!(drain(&mut stream), b"still here");
    send(&mut guest, &shutdown(3));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    assert!(is_at_end(&mut stream));
}

#[test]
fn the_guest_may_stop_sending_and_go_on_receiving() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    send(&mut guest, &data(1, 80, b"last words"));
    send(&mut guest, &shutdown(2));
    assert_eq!(drain(&mut stream), b"last words");
    assert!(is_at_end(&mut stream));
    stream.write_all(b"still here").unwrap();
    guest.host_ready();
    assert_eq!(receive(&mut guest).unwrap().data, b"still here");
    drop(stream);
    guest.host_ready();
    let end = receive(&mut guest).unwrap();
    assert_eq!((end.operation, end.flags), (SHUTDOWN, 3));
}

#[test]
fn the_guest_may_stop_receiving() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    send(&mut guest, &shutdown(1));
    assert!(stream.write_all(b"too late").is_err());
    send(&mut guest, &data(1, 80, b"still here"));
    assert_eq!(drain(&mut stream), b"still here");
    guest.host_ready();
    assert_eq!(receive(&mut guest), None);
    // The host leaves too: nothing is left for the guest to do here.
    drop(stream);
    guest.host_ready();
    let end = receive(&mut guest).unwrap();
    assert_eq!((end.operation, end.flags & 1), (SHUTDOWN, 1));
}

#[test]
fn a_host_that_stops_receiving_is_told_to_the_guest() {
    let (launcher, mut guest) = started();
    let stream = dial(&launcher, &mut guest, 1, 80);
    stream.shutdown(Shutdown::Read).unwrap();
    send(&mut guest, &data(1, 80, b"lost"));
    let end = receive(&mut guest).unwrap();
    assert_eq!((end.operation, end.flags), (SHUTDOWN, 1));
    // What is sent all the same is dropped, but credited.
    for _ in 0..16 {
        send(&mut guest, &data(1, 80, &pattern(1 << 16)));
        let credit = receive(&mut guest);
        assert!(credit.is_none_or(|packet| packet.operation == CREDIT_UPDATE));
    }
    assert!(!guest.is_broken());
}

#[test]
fn a_host_that_sleeps_loses_nothing_and_bounds_the_guest() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    let capacity = CAPACITY as usize;
    // Until the guest is out of credit; some of it is with the socket.
    let (mut sent, mut forwarded) = (0, 0);
    let bytes = pattern(8 << 20);
    while sent - forwarded < capacity {
        let part = &bytes[sent..(sent + 50_000).min(forwarded + capacity)];
        send(&mut guest, &data(1, 80, part));
        sent += part.len();
        while let Some(credit) = receive(&mut guest) {
            assert_eq!(credit.operation, CREDIT_UPDATE);
            assert_eq!(credit.capacity, CAPACITY);
        }
        send(&mut guest, &packet(CREDIT_REQUEST, 1, 80));
        forwarded = receive(&mut guest).unwrap().forwarded as usize;
    }
    // The others are served meanwhile.
    let mut other = dial(&launcher, &mut guest, 2, 80);
    send(&mut guest, &data(2, 80, b"not held up"));
    assert_eq!(drain(&mut other), b"not held up");
    // The end comes after the data.
    send(&mut guest, &shutdown(3));
    assert_eq!(receive(&mut guest), None);
    let mut arrived = Vec::new();
    while arrived.len() < sent {
        arrived.extend(drain(&mut stream));
        guest.host_ready();
    }
    assert!(arrived == bytes[..sent]);
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    assert!(is_at_end(&mut stream));
}

#[test]
fn credit_comes_back_when_the_host_wakes() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    // Fills the socket and all of the backlog.
    let mut sent = 0_u32;
    loop {
        send(&mut guest, &packet(CREDIT_REQUEST, 1, 80));
        let forwarded = receive(&mut guest).unwrap().forwarded;
        let room = CAPACITY - (sent - forwarded);
        if room == 0 {
            break;
        }
        send(
            &mut guest,
            &data(1, 80, &vec![7; room.min(1 << 16) as usize]),
        );
        sent += room.min(1 << 16);
        while guest.take(RECEIVE).is_some() {
            stock(&mut guest);
        }
    }
    // One byte too much is a violation; but not here.
    let mut arrived = 0;
    let mut told = None;
    while arrived < sent as usize {
        arrived += drain(&mut stream).len();
        guest.host_ready();
        while let Some(packet) = receive(&mut guest) {
            assert_eq!(packet.operation, CREDIT_UPDATE);
            told = Some(packet.forwarded);
        }
    }
    assert!(told.unwrap() > sent - CAPACITY / 2 - (1 << 18));
}

#[test]
fn more_than_the_credit_resets_the_connection() {
    let (launcher, mut guest) = started();
    let _stream = dial(&launcher, &mut guest, 1, 80);
    send(&mut guest, &data(1, 80, &vec![0; CAPACITY as usize + 1]));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    let _stream = dial(&launcher, &mut guest, 1, 80);
    let mut answer = None;
    for _ in 0..16 {
        send(&mut guest, &data(1, 80, &[0; 1 << 16]));
        answer = answer.or_else(|| receive(&mut guest).filter(|packet| packet.operation == RST));
    }
    assert!(answer.is_some());
}

#[test]
fn a_guest_that_sleeps_loses_nothing() {
    let mut launcher = Launcher::new();
    let device = launcher.device();
    let watch = device.host_fd().unwrap().try_clone_to_owned().unwrap();
    let mut guest = Guest::new(device);
    guest.start();
    // One buffer, for the response.
    guest.offer(RECEIVE, &[], &[5000]);
    let mut stream = {
        send(&mut guest, &packet(REQUEST, 1, 80));
        launcher.accept().unwrap().1
    };
    let response = guest.take(RECEIVE).unwrap();
    assert_eq!(Packet::parse(&response.bytes[..44]).operation, RESPONSE);
    let bytes = pattern(100_000);
    stream.write_all(&bytes).unwrap();
    drop(stream);
    for _ in 0..3 {
        guest.host_ready();
        assert!(!is_ready(&watch, PollFlags::IN), "the device is kept awake");
    }
    stock(&mut guest);
    let mut arrived = Vec::new();
    let end = loop {
        let packet = receive(&mut guest).unwrap();
        match packet.operation {
            RW => arrived.extend(packet.data),
            _ => break packet,
        }
    };
    assert!(arrived == bytes);
    assert_eq!((end.operation, end.flags), (SHUTDOWN, 3));
}

#[test]
fn the_guests_credit_is_never_exceeded() {
    let (launcher, mut guest) = started();
    send(
        &mut guest,
        &Packet {
            capacity: 5000,
            ..packet(REQUEST, 1, 80)
        },
    );
    assert_eq!(receive(&mut guest).unwrap().operation, RESPONSE);
    let mut stream = launcher.accept().unwrap().1;
    let bytes = pattern(20_000);
    stream.write_all(&bytes).unwrap();
    guest.host_ready();
    let mut arrived = Vec::new();
    let mut told = 0;
    while arrived.len() < bytes.len() {
        while let Some(packet) = receive(&mut guest) {
            arrived.extend(packet.data);
        }
        assert!(arrived.len() <= told + 5000);
        assert!(arrived.len() > told, "no progress");
        told = arrived.len();
        send(
            &mut guest,
            &Packet {
                capacity: 5000,
                forwarded: u32::try_from(told).unwrap(),
                ..packet(CREDIT_UPDATE, 1, 80)
            },
        );
    }
    assert!(arrived == bytes);
    // A guest that lies about what it took gets nothing more, or too much of its own; nobody else does.
    for (capacity, forwarded) in [(0, 0), (u32::MAX, u32::MAX), (1, u32::MAX), (u32::MAX, 0)] {
        stream.write_all(b"x").unwrap();
        send(
            &mut guest,
            &Packet {
                capacity,
                forwarded,
                ..packet(CREDIT_UPDATE, 1, 80)
            },
        );
        guest.host_ready();
    }
    assert!(!guest.is_broken());
}

#[test]
fn a_guest_that_resets_after_sending_loses_nothing() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    let bytes = pattern(CAPACITY as usize);
    for part in bytes.chunks(1 << 16) {
        send(&mut guest, &data(1, 80, part));
    }
    while receive(&mut guest).is_some() {}
    send(&mut guest, &packet(RST, 1, 80));
    // The ports are taken until the host has it all.
    send(&mut guest, &packet(REQUEST, 1, 80));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    let mut arrived = Vec::new();
    while arrived.len() < bytes.len() {
        arrived.extend(drain(&mut stream));
        guest.host_ready();
    }
    assert!(arrived == bytes);
    assert!(is_at_end(&mut stream));
    assert_eq!(receive(&mut guest), None);
    dial(&launcher, &mut guest, 1, 80);
}

#[test]
fn connections_take_turns() {
    let (launcher, mut guest) = started();
    let mut streams = [1, 2, 3].map(|port| dial(&launcher, &mut guest, port, 80));
    for stream in &mut streams {
        stream.write_all(&[0; 40_000]).unwrap();
    }
    guest.host_ready();
    let ports: Vec<u32> = (0..9)
        .map(|_| receive(&mut guest).unwrap().guest_port)
        .collect();
    for turn in ports.chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, [1, 2, 3]);
    }
}

/// One thing that happens on a connection.
#[derive(Debug, Clone)]
enum Step {
    GuestSends(usize),
    HostSends(usize),
    HostReads,
    GuestReads,
    DeviceWakes,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_in_order(steps in proptest::collection::vec(prop_oneof![
        3 => (1_usize..70_000).prop_map(Step::GuestSends),
        3 => (1_usize..70_000).prop_map(Step::HostSends),
        2 => Just(Step::HostReads),
        2 => Just(Step::GuestReads),
        2 => Just(Step::DeviceWakes),
    ], 1..80)) {
        let (launcher, mut guest) = started();
        let mut stream = dial(&launcher, &mut guest, 1, 80);
        let (mut to_host, mut to_guest) = (VecDeque::new(), VecDeque::new());
        let (mut from_guest, mut from_host) = (0_usize, 0_usize);
        // As the guest keeps its books.
        let (mut sent, mut host_took, mut guest_took) = (0_u32, 0_u32, 0_u32);
        let last = [Step::HostReads, Step::DeviceWakes, Step::GuestReads].into_iter().cycle().take(120);
        for step in steps.into_iter().chain(last) {
            match step {
                Step::GuestSends(length) => {
                    let room = (CAPACITY - sent.wrapping_sub(host_took)) as usize;
                    let length = length.min(room);
                    let bytes: Vec<u8> = (from_guest..from_guest + length).map(|at| (at % 253).to_le_bytes()[0]).collect();
                    from_guest += length;
                    to_host.extend(&bytes);
                    sent = sent.wrapping_add(u32::try_from(length).unwrap());
                    send(&mut guest, &Packet { forwarded: guest_took, ..data(1, 80, &bytes) });
                }
                Step::HostSends(length) => {
                    let bytes: Vec<u8> = (from_host..from_host + length).map(|at| (at % 253).to_le_bytes()[0]).collect();
                    let done = stream.write(&bytes).unwrap_or(0);
                    from_host += done;
                    to_guest.extend(&bytes[..done]);
                }
                Step::HostReads => {
                    for byte in drain(&mut stream) {
                        prop_assert_eq!(to_host.pop_front(), Some(byte));
                    }
                }
                Step::GuestReads => {
                    while let Some(packet) = receive(&mut guest) {
                        prop_assert!([RW, CREDIT_UPDATE].contains(&packet.operation));
                        host_took = packet.forwarded;
                        guest_took = guest_took.wrapping_add(u32::try_from(packet.data.len()).unwrap());
                        for byte in packet.data {
                            prop_assert_eq!(to_guest.pop_front(), Some(byte));
                        }
                    }
                    send(&mut guest, &Packet { forwarded: guest_took, ..packet(CREDIT_UPDATE, 1, 80) });
                }
                Step::DeviceWakes => guest.host_ready(),
            }
        }
        prop_assert!(to_host.is_empty() && to_guest.is_empty());
    }
}

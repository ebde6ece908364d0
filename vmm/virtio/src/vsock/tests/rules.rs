//! Who may open, close and reset what, and what bounds it.

use std::sync::atomic::Ordering;

use super::super::packet::operation::{CREDIT_REQUEST, CREDIT_UPDATE};
use super::super::{EVENT, MOST_CONNECTIONS, MOST_RESETS};
use super::*;

#[test]
fn the_host_connects_to_the_guest() {
    let (launcher, mut guest) = started();
    let mut stream = launcher.connect(22);
    guest.host_ready();
    let request = receive(&mut guest).unwrap();
    assert_eq!((request.operation, request.guest_port), (REQUEST, 22));
    stream.write_all(b"early").unwrap();
    guest.host_ready();
    assert_eq!(receive(&mut guest), None, "not before the guest agrees");
    send(&mut guest, &packet(RESPONSE, 22, request.host_port));
    assert_eq!(receive(&mut guest).unwrap().data, b"early");
    send(&mut guest, &data(22, request.host_port, b"answer"));
    assert_eq!(drain(&mut stream), b"answer");
    // Another one to the same port is another connection.
    let _other = launcher.connect(22);
    guest.host_ready();
    assert_ne!(receive(&mut guest).unwrap().host_port, request.host_port);
}

#[test]
fn the_guest_may_refuse_the_host() {
    let (launcher, mut guest) = started();
    let mut stream = launcher.connect(23);
    guest.host_ready();
    let request = receive(&mut guest).unwrap();
    send(&mut guest, &packet(RST, 23, request.host_port));
    assert!(is_at_end(&mut stream));
    assert_eq!(receive(&mut guest), None);
    // To agree unasked is a violation.
    let mut stream = launcher.connect(24);
    guest.host_ready();
    let request = receive(&mut guest).unwrap();
    send(&mut guest, &packet(RESPONSE, 24, request.host_port));
    send(&mut guest, &packet(RESPONSE, 24, request.host_port));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    assert!(is_at_end(&mut stream));
}

#[test]
fn connections_wait_for_the_driver() {
    let mut launcher = Launcher::new();
    let mut guest = Guest::new(launcher.device());
    let _stream = launcher.connect(22);
    guest.host_ready();
    guest.start();
    stock(&mut guest);
    assert_eq!(receive(&mut guest).unwrap().operation, REQUEST);
}

#[test]
fn a_launcher_that_does_not_want_the_stream_closes_it() {
    let (launcher, mut guest) = started();
    drop(dial(&launcher, &mut guest, 1, 80));
    guest.host_ready();
    let end = receive(&mut guest).unwrap();
    assert_eq!((end.operation, end.flags), (SHUTDOWN, 3));
    send(&mut guest, &packet(RST, 1, 80));
    assert_eq!(receive(&mut guest), None);
    // The ports are free again.
    dial(&launcher, &mut guest, 1, 80);
}

#[test]
fn without_a_launcher_a_request_is_refused_and_the_machine_is_told() {
    let (launcher, mut guest) = started();
    assert!(!guest.told.hung_up.load(Ordering::SeqCst));
    drop(launcher);
    send(&mut guest, &packet(REQUEST, 1, 80));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    for _ in 0..3 {
        guest.host_ready();
    }
    assert!(guest.told.hung_up.load(Ordering::SeqCst));
}

#[test]
fn the_machine_is_told_of_a_hang_up_before_the_driver_is_ready() {
    let mut launcher = Launcher::new();
    let guest = Guest::new(launcher.device());
    drop(launcher);
    guest.host_ready();
    assert!(guest.told.hung_up.load(Ordering::SeqCst));
}

#[test]
fn strange_messages_of_the_launcher_are_dropped() {
    let (launcher, mut guest) = started();
    let stream = || OwnedFd::from(UnixStream::pair().unwrap().0);
    launcher.send(b"x", &[stream()]);
    launcher.send(&[0; 4], &[]);
    launcher.send(&u32::MAX.to_le_bytes(), &[stream()]);
    // A file cannot be watched.
    launcher.send(
        &7_u32.to_le_bytes(),
        &[tempfile::tempfile().unwrap().into()],
    );
    guest.host_ready();
    assert_eq!(receive(&mut guest), None);
    let _stream = launcher.connect(22);
    guest.host_ready();
    assert_eq!(receive(&mut guest).unwrap().guest_port, 22);
}

#[test]
fn packets_for_no_connection_are_answered_with_a_reset() {
    let (_launcher, mut guest) = started();
    for operation in [
        RESPONSE,
        RW,
        SHUTDOWN,
        CREDIT_UPDATE,
        CREDIT_REQUEST,
        0,
        9,
        u16::MAX,
    ] {
        send(&mut guest, &packet(operation, 9, 90));
        let answer = receive(&mut guest).unwrap();
        assert_eq!(
            (answer.operation, answer.guest_port, answer.host_port),
            (RST, 9, 90)
        );
    }
    // But no reset with a reset.
    send(&mut guest, &packet(RST, 9, 90));
    assert_eq!(receive(&mut guest), None);
    // Nor is there a port "any".
    for (guest_port, host_port) in [(u32::MAX, 80), (9, u32::MAX)] {
        send(&mut guest, &packet(REQUEST, guest_port, host_port));
        assert_eq!(receive(&mut guest).unwrap().operation, RST);
    }
}

#[test]
fn only_streams_between_this_guest_and_the_host_exist() {
    let (launcher, mut guest) = started();
    let request = packet(REQUEST, 9, 90).header();
    for (at, value) in [(0, 4), (8, 3), (8, 1), (15, 1)] {
        let mut header = request.clone();
        header[at] = value;
        guest.exchange(TRANSMIT, &[&header], &[]);
        assert_eq!(receive(&mut guest), None);
    }
    let mut seqpacket = request;
    seqpacket[28] = 2;
    guest.exchange(TRANSMIT, &[&seqpacket], &[]);
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    assert!(launcher.accept().is_none());
}

#[test]
fn what_the_protocol_forbids_resets_the_connection() {
    let (launcher, mut guest) = started();
    let violations = [
        packet(REQUEST, 9, 90),
        packet(RESPONSE, 9, 90),
        packet(77, 9, 90),
    ];
    for violation in violations {
        let mut stream = dial(&launcher, &mut guest, 9, 90);
        send(&mut guest, &violation);
        assert_eq!(receive(&mut guest).unwrap().operation, RST);
        assert!(is_at_end(&mut stream));
        assert_eq!(receive(&mut guest), None);
    }
    // A length beyond the data.
    let _stream = dial(&launcher, &mut guest, 9, 90);
    let mut header = data(9, 90, b"12345").header();
    header[24] = 200;
    guest.exchange(TRANSMIT, &[&header, b"12345"], &[]);
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    // Data after the end.
    let _stream = dial(&launcher, &mut guest, 9, 90);
    let end = Packet {
        flags: 2,
        ..packet(SHUTDOWN, 9, 90)
    };
    send(&mut guest, &end);
    send(&mut guest, &data(9, 90, b"more"));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    assert!(!guest.is_broken());
}

#[test]
fn connections_are_bounded() {
    let (launcher, mut guest) = started();
    let most = u32::try_from(MOST_CONNECTIONS).unwrap();
    let mut streams: Vec<_> = (0..most)
        .map(|port| dial(&launcher, &mut guest, port, 80))
        .collect();
    send(&mut guest, &packet(REQUEST, most, 80));
    assert_eq!(receive(&mut guest).unwrap().operation, RST);
    // The launcher's request waits until one ends.
    let _stream = launcher.connect(22);
    guest.host_ready();
    assert_eq!(receive(&mut guest), None);
    send(&mut guest, &packet(RST, 5, 80));
    assert_eq!(receive(&mut guest).unwrap().operation, REQUEST);
    assert!(is_at_end(&mut streams[5]));
}

#[test]
fn resets_are_bounded() {
    let mut launcher = Launcher::new();
    let mut guest = Guest::new(launcher.device());
    guest.start();
    // No buffer to receive: the guest's packets wait, instead of piling up answers.
    let mut taken = 0;
    for port in 0..200 {
        if guest.outstanding(TRANSMIT) < 32 {
            guest.offer(TRANSMIT, &[&packet(RW, port, 1).header()], &[]);
        }
        guest.kick(TRANSMIT);
        while guest.take(TRANSMIT).is_some() {
            taken += 1;
        }
    }
    assert_eq!(taken, MOST_RESETS);
    stock(&mut guest);
    let mut resets = 0;
    while receive(&mut guest).is_some() {
        resets += 1;
    }
    assert_eq!(resets, MOST_RESETS + 32);
    assert_eq!(guest.outstanding(TRANSMIT) - 32, 0);
    while guest.take(TRANSMIT).is_some() {}
    assert_eq!(guest.outstanding(TRANSMIT), 0);
}

#[test]
fn opening_and_resetting_leaves_nothing_behind() {
    let mut launcher = Launcher::new();
    let mut guest = Guest::new(launcher.device());
    guest.start();
    // No buffer to receive. That the device keeps no turns for what is gone, it asserts itself.
    for _ in 0..1000 {
        send(&mut guest, &packet(REQUEST, 1, 80));
        assert!(launcher.accept().is_some());
        send(&mut guest, &packet(RST, 1, 80));
    }
    stock(&mut guest);
    assert_eq!(receive(&mut guest), None);
    dial(&launcher, &mut guest, 1, 80);
}

#[test]
fn a_reset_of_the_device_ends_all_streams() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    guest.write(0x70, 0);
    assert!(is_at_end(&mut stream));
}

#[test]
fn a_guest_that_breaks_the_device_ends_all_streams() {
    let (launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    guest.offer(TRANSMIT, &[&[0; 43]], &[]);
    guest.kick(TRANSMIT);
    assert!(guest.is_broken());
    assert!(is_at_end(&mut stream));
    // A buffer without room for data breaks it too.
    guest.start();
    guest.offer(RECEIVE, &[], &[44]);
    send(&mut guest, &packet(RW, 1, 1));
    assert!(guest.is_broken());
}

#[test]
fn connections_at_rest_outlive_a_save() {
    let (mut launcher, mut guest) = started();
    let mut streams: Vec<_> = (1..3)
        .map(|port| dial(&launcher, &mut guest, port, 80))
        .collect();
    send(&mut guest, &data(1, 80, b"before"));
    assert_eq!(drain(&mut streams[0]), b"before");
    streams[1].write_all(b"more").unwrap();
    guest.host_ready();
    assert_eq!(receive(&mut guest).unwrap().data, b"more");
    let state = guest.slot.save().unwrap();
    guest.move_to(launcher.device());
    guest.slot.restore(&state).unwrap();
    let (first_port, mut first) = launcher.accept().unwrap();
    let (second_port, mut second) = launcher.accept().unwrap();
    assert_eq!((first_port, second_port), (80, 80));
    assert!(launcher.accept().is_none());
    // Both go on where they were, with what was counted.
    send(&mut guest, &data(1, 80, b"after"));
    assert_eq!(drain(&mut first), b"after");
    assert!(drain(&mut second).is_empty());
    first.write_all(b"answer").unwrap();
    guest.host_ready();
    let packet = receive(&mut guest).unwrap();
    assert_eq!(packet.data, b"answer");
    assert_eq!((packet.guest_port, packet.forwarded), (1, 11));
    // The old streams are nobody's.
    drop(guest);
    assert!(is_at_end(&mut streams[0]));
}

#[test]
fn survivors_are_told_from_new_connections() {
    let (mut launcher, mut guest) = started();
    dial(&launcher, &mut guest, 7, 80);
    // Its stream was dropped: nothing of it survives.
    let gone = guest.slot.save().unwrap();
    let (mut other, mut fresh) = started();
    let _stream = dial(&other, &mut fresh, 7, 80);
    let state = fresh.slot.save().unwrap();
    for (state, expected) in [(gone, None), (state, Some([80, 7]))] {
        guest.move_to(launcher.device());
        guest.slot.restore(&state).unwrap();
        let (mut text, flags) = ([0; 16], RecvFlags::DONTWAIT);
        let ports = rustix::net::recv(&launcher.channel, &mut text[..], flags).ok();
        let ports = ports.map(|(length, _)| {
            assert_eq!(length, 8);
            [0, 4].map(|at| u32::from_le_bytes(text[at..at + 4].try_into().unwrap()))
        });
        assert_eq!(ports, expected);
    }
    drop(other.device());
}

#[test]
fn after_a_save_in_the_middle_the_guest_learns_that_its_connections_are_gone() {
    let (mut launcher, mut guest) = started();
    let mut stream = dial(&launcher, &mut guest, 1, 80);
    // The host has sent what the device has not even seen.
    stream.write_all(b"lost").unwrap();
    guest.offer(EVENT, &[], &[8]);
    let state = guest.slot.save().unwrap();
    guest.move_to(launcher.device());
    guest.slot.restore(&state).unwrap();
    guest.slot.kick(RECEIVE);
    let event = guest.take(EVENT).unwrap();
    assert_eq!((event.length, &event.bytes[..4]), (4, &[0; 4][..]));
    // Once.
    guest.offer(EVENT, &[], &[8]);
    guest.kick(EVENT);
    assert_eq!(guest.take(EVENT), None);
    dial(&launcher, &mut guest, 2, 80);
    // Another guest's state is not for this device.
    let other = Guest::new(Vsock::new(4, channel().0).unwrap());
    assert!(other.slot.restore(&state).is_err());
}

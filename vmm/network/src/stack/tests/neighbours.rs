//! Guests of one network reach each other by address and name, and nobody can be somebody else.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;
use crate::{link_name, socket_name};

fn address(last: u8) -> Ipv4Addr {
    let [a, b, c, _] = GATEWAY.0.octets();
    Ipv4Addr::new(a, b, c, last)
}

fn bound(network: &Path, name: &str) -> UnixDatagram {
    let socket = UnixDatagram::bind(network.join(name)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A guest of the network in this directory.
fn guest(network: &Path, last: u8, names: &str) -> Guest {
    let own = address(last);
    let socket = bound(network, &socket_name(own)).into();
    symlink(names, network.join(link_name(own))).unwrap();
    let directory: OwnedFd = std::fs::File::open(network).unwrap().into();
    let neighbours = Neighbours {
        socket,
        directory,
        prefix: "/proc/self/fd/",
    };
    let settings = Settings {
        address: own,
        egress: Some(Vec::new()),
        ..Settings::default()
    };
    Guest {
        stack: Stack::new(settings, Vec::new(), Some(neighbours), None).unwrap(),
        offload: ALL,
    }
}

/// A packet from one address to another.
fn packet(from: u8, to: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ends = Ends {
        source: address(from).into(),
        ..from_guest(address(to).into())
    };
    let mut out = Vec::new();
    ends.write(&mut out, protocol, payload.len());
    out.extend(payload);
    out
}

fn datagram(data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::write_udp(&mut payload, 1000, 2000, data.len());
    payload.extend(data);
    payload
}

/// Whether the guest hears who has an address.
fn asks(guest: &mut Guest, own: u8, other: u8) -> bool {
    let mut question = [&[0xff; 6][..], &crate::MAC, &[8, 6]].concat();
    question.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(crate::MAC);
    question.extend(address(own).octets());
    question.extend([0; 6]);
    question.extend(address(other).octets());
    guest.send(&question);
    let answer = guest.take();
    if let Some(answer) = &answer {
        assert_eq!(answer[22..28], GATEWAY_MAC);
        assert_eq!(answer[28..32], address(other).octets());
    }
    answer.is_some()
}

/// The addresses that the gateway says a name has, if it answers itself.
fn resolves(guest: &mut Guest, own: u8, name: &str, kind: u8) -> Option<Vec<u8>> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    let mut payload = Vec::new();
    wire::write_udp(&mut payload, 1000, dns::PORT, query.len());
    payload.extend(&query);
    guest.send(&packet(own, 2, wire::UDP, &payload));
    let (ip, rest) = packet_of(&guest.take()?);
    if ip.protocol != wire::UDP {
        return None;
    }
    let answer = &rest[wire::UDP_LENGTH..];
    if answer[..4] == [0, 7, 0x81, 0x85] {
        return None;
    }
    assert_eq!(answer[..4], [0, 7, 0x85, 0x80], "{answer:?}");
    let records = answer[query.len()..].chunks(16);
    assert_eq!(records.len(), usize::from(answer[7]));
    Some(records.map(|record| record[15]).collect())
}

#[test]
fn packets_pass_with_the_address_of_who_sent_them() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut other = guest(network.path(), 4, "other");
    assert!(asks(&mut one, 3, 4) && asks(&mut other, 4, 3));
    one.send(&packet(3, 4, wire::UDP, &datagram(b"hello")));
    let (ip, rest) = packet_of(&other.frame());
    assert_eq!(ip.source, IpAddr::from(address(3)));
    assert_eq!(ip.destination, IpAddr::from(address(4)));
    assert_eq!(rest[wire::UDP_LENGTH..], *b"hello");
    // The whole way of a connection is the guests' own business; what was left to others is completed.
    other.offload = Offload::default();
    let syn = Segment {
        flags: flag::SYN,
        ..Segment::default()
    };
    let mut payload = Vec::new();
    wire::write_tcp(&mut payload, &syn, 0x1234);
    one.send(&packet(3, 4, wire::TCP, &payload));
    let (ip, rest) = packet_of(&other.frame());
    assert_eq!(ip.protocol, wire::TCP);
    let ends = other.stack.ends(address(3).into());
    let pseudo = ends.pseudo_header(wire::TCP, rest.len());
    assert_eq!(wire::checksum(&[&pseudo.to_be_bytes(), &rest]), 0);
    // The largest packet there is.
    let long = datagram(&vec![7; 65_515 - wire::UDP_LENGTH]);
    one.send(&packet(3, 4, wire::UDP, &long));
    assert_eq!(packet_of(&other.frame()).1.len(), 65_515);
    other.send(&packet(4, 3, wire::ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]));
    assert_eq!(packet_of(&one.frame()).0.source, IpAddr::from(address(4)));
}

#[test]
fn nobody_speaks_for_another_and_nobody_from_elsewhere() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut other = guest(network.path(), 4, "other");
    // A guest that calls itself another; a packet to itself, to all, and of a protocol that nobody speaks.
    one.send(&packet(5, 4, wire::UDP, &datagram(b"x")));
    one.send(&packet(3, 3, wire::UDP, &datagram(b"x")));
    one.send(&packet(3, 4, 132, &[0; 20]));
    one.send(&packet(3, 4, wire::TCP, &[0; 19]));
    other.silent();
    one.silent();
    one.send(&packet(3, 255, wire::UDP, &datagram(b"x")));
    assert_eq!(packet_of(&one.frame()).1[..2], [3, 3], "nobody is all");
    other.silent();
    // What a stack would never send, from sockets that are no guest's.
    let target = network.path().join(socket_name(address(4)));
    let message = [&[wire::UDP][..], &datagram(b"x")].concat();
    let nameless = UnixDatagram::unbound().unwrap();
    nameless.send_to(&message, &target).unwrap();
    for name in ["10.0.2.2", "10.0.2.255", "10.0.3.7", "10.0.2.4.x", "x"] {
        let socket = bound(network.path(), name);
        socket.send_to(&message, &target).unwrap();
        other.silent();
    }
    // And from one that is, but is not whole.
    let peer = bound(network.path(), &socket_name(address(9)));
    for message in [
        &[][..],
        &[wire::UDP],
        &[wire::UDP, 1, 2, 3],
        &[0; 100],
        &[255; 100],
    ] {
        peer.send_to(message, &target).unwrap();
        other.silent();
    }
    peer.send_to(&message, &target).unwrap();
    assert_eq!(packet_of(&other.frame()).0.source, IpAddr::from(address(9)));
}

#[test]
fn whoever_does_not_read_costs_nothing_and_a_flood_of_nothing_blocks_nobody() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut deaf = guest(network.path(), 4, "deaf");
    for _ in 0..10_000 {
        one.send(&packet(3, 4, wire::UDP, &datagram(&[1; 1000])));
    }
    assert!(one.take().is_none());
    deaf.wait(1000);
    let mut heard = 0;
    while deaf.take().is_some() {
        heard += 1;
        deaf.wait(0);
    }
    assert!((1..10_000).contains(&heard), "{heard}");
    // Probes are answered by nobody, and end a step after so many.
    for _ in 0..10 {
        assert!(asks(&mut one, 3, 4));
    }
    one.send(&packet(3, 4, wire::UDP, &datagram(b"last")));
    let (_, rest) = packet_of(&deaf.frame());
    assert_eq!(rest[wire::UDP_LENGTH..], *b"last");
}

#[test]
fn names_lead_to_who_is_there() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one,both");
    let other = guest(network.path(), 4, "other,both");
    assert_eq!(resolves(&mut one, 3, "OTHER", 1), Some(vec![4]));
    assert_eq!(resolves(&mut one, 3, "other", 28), Some(vec![]));
    assert_eq!(resolves(&mut one, 3, "both", 1), Some(vec![3, 4]));
    for name in ["oth", "one,both", "nobody", "10.0.2.4"] {
        assert_eq!(resolves(&mut one, 3, name, 1), None, "{name}");
        while one.take().is_some() {}
    }
    // One that is killed leaves its socket and its names, and is not there.
    drop(other);
    assert_eq!(resolves(&mut one, 3, "other", 1), None);
    while one.take().is_some() {}
    assert_eq!(resolves(&mut one, 3, "both", 1), Some(vec![3]));
    assert!(!asks(&mut one, 3, 4));
    one.send(&packet(3, 4, wire::UDP, &datagram(b"x")));
    let (ip, rest) = packet_of(&one.frame());
    assert_eq!((ip.protocol, rest[0], rest[1]), (wire::ICMP, 3, 1));
}

#[test]
fn networks_do_not_see_each_other_and_without_one_there_is_nobody() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut one = guest(here.path(), 3, "one");
    let mut other = guest(there.path(), 4, "other");
    assert!(!asks(&mut one, 3, 4) && !asks(&mut other, 4, 3));
    assert_eq!(resolves(&mut one, 3, "other", 1), None);
    while one.take().is_some() {}
    one.send(&packet(3, 4, wire::UDP, &datagram(b"x")));
    other.silent();
    let mut alone = Guest::new();
    assert!(!asks(&mut alone, 15, 4));
}

//! Guests of one network reach each other by address and name, and nobody can be somebody else.

use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;
use crate::{address_in, link_name, neighbours, socket_name};

/// The network's number among those of IPv6.
const SUBNET: u16 = 0xbeef;

fn address6(last: u8) -> IpAddr {
    address_in(SUBNET, address(last)).into()
}

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
        address6: address_in(SUBNET, own),
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
    let length = if kind == 28 { 28 } else { 16 };
    let records = answer[query.len()..].chunks(length);
    assert_eq!(records.len(), usize::from(answer[7]));
    if kind == 28 {
        let prefix = Ipv6Addr::new(0xfd68, 0x756c, 0x6c, SUBNET, 0, 0, 0, 0).octets();
        assert!(records.clone().all(|record| record[12..26] == prefix[..14]));
    }
    Some(records.map(|record| record[length - 1]).collect())
}

/// A packet from one IPv6 address to another.
fn packet6(from: u8, to: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ends = Ends {
        source: address6(from),
        ..from_guest(address6(to))
    };
    let mut out = Vec::new();
    ends.write(&mut out, protocol, payload.len());
    out.extend(payload);
    out
}

/// Whether the guest hears who has an IPv6 address: asked of all, or of whoever has it.
fn asks6(guest: &mut Guest, own: u8, target: IpAddr, to: IpAddr) -> bool {
    let IpAddr::V6(target) = target else {
        panic!("{target}");
    };
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    let ends = Ends {
        source: address6(own),
        ..from_guest(to)
    };
    let mut frame = Vec::new();
    ends.write(&mut frame, wire::ICMPV6, message.len());
    frame.extend(message);
    guest.send(&frame);
    let Some(answer) = guest.take() else {
        return false;
    };
    let (ip, rest) = packet_of(&answer);
    assert_eq!((ip.source, rest[0]), (target.into(), 136));
    assert_eq!(rest[26..32], GATEWAY_MAC);
    true
}

#[test]
fn addresses_of_both_kinds_are_written_alike() {
    for (last, text) in [
        (3, "fd68:756c:6c:7::3"),
        (15, "fd68:756c:6c:7::15"),
        (254, "fd68:756c:6c:7::254"),
    ] {
        assert_eq!(
            address_in(7, address(last)),
            text.parse::<Ipv6Addr>().unwrap()
        );
    }
    assert_eq!(address_in(0, GUEST.0), GUEST.1);
    assert_eq!(address_in(0, GATEWAY.0), GATEWAY.1);
    let network = tempfile::tempdir().unwrap();
    let one = guest(network.path(), 3, "one");
    for last in neighbours::HOSTS {
        assert_eq!(one.stack.neighbour(address6(last)), Some(address(last)));
    }
    for text in [
        "fd68:756c:6c:beef::2",
        "fd68:756c:6c:beef::f",
        "fd68:756c:6c:beef::255",
        "fd68:756c:6c:beef::1:3",
        "fd68:756c:6c:bee0::3",
        "fd68:756c:6d:beef::3",
        "2001:db8::3",
    ] {
        assert_eq!(one.stack.neighbour(text.parse().unwrap()), None, "{text}");
    }
}

#[test]
fn packets_pass_over_ipv6_too() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut other = guest(network.path(), 4, "other");
    let all: IpAddr = "ff02::1:ff00:4".parse().unwrap();
    assert!(asks6(&mut one, 3, address6(4), all));
    assert!(asks6(&mut one, 3, address6(4), address6(4)), "and again");
    assert!(asks6(&mut one, 3, address6(2), address6(2)), "the gateway");
    assert!(!asks6(&mut one, 3, address6(5), all), "nobody");
    assert!(!asks6(&mut one, 3, address6(3), all), "itself");
    one.send(&packet6(3, 4, wire::UDP, &datagram(b"hello")));
    let (ip, rest) = packet_of(&other.frame());
    assert_eq!((ip.source, ip.destination), (address6(3), address6(4)));
    assert_eq!(rest[wire::UDP_LENGTH..], *b"hello");
    other.offload = Offload::default();
    let mut payload = Vec::new();
    wire::write_tcp(&mut payload, &Segment::default(), 0x1234);
    one.send(&packet6(3, 4, wire::TCP, &payload));
    let (_, rest) = packet_of(&other.frame());
    let ends = other.stack.ends(address6(3));
    let pseudo = ends.pseudo_header(wire::TCP, rest.len());
    assert_eq!(wire::checksum(&[&pseudo.to_be_bytes(), &rest]), 0);
    let long = datagram(&vec![7; 65_495 - wire::UDP_LENGTH]);
    one.send(&packet6(3, 4, wire::UDP, &long));
    assert_eq!(packet_of(&other.frame()).1.len(), 65_495);
    one.send(&packet6(3, 4, wire::ICMPV6, &[128, 0, 0, 0, 0, 1, 0, 1]));
    assert_eq!(packet_of(&other.frame()).1[0], 128);
    // Of a guest that is not there one hears.
    one.send(&packet6(3, 9, wire::UDP, &datagram(b"x")));
    let (ip, rest) = packet_of(&one.frame());
    assert_eq!((ip.source, ip.protocol), (address6(9), wire::ICMPV6));
    assert_eq!(rest[..2], [1, 3]);
    assert_eq!(resolves(&mut one, 3, "other", 28), Some(vec![4]));
}

#[test]
fn nobody_speaks_for_another_over_ipv6_nor_for_the_link() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut other = guest(network.path(), 4, "other");
    one.send(&packet6(5, 4, wire::UDP, &datagram(b"x")));
    one.send(&packet6(3, 3, wire::UDP, &datagram(b"x")));
    one.send(&packet6(3, 4, wire::ICMP, &[8; 20]));
    one.send(&packet(3, 4, wire::ICMPV6, &[128; 20]));
    // Who advertises, redirects or routes is the gateway.
    for kind in 133..=137 {
        one.send(&packet6(3, 4, wire::ICMPV6, &[kind; 40]));
    }
    other.silent();
    one.silent();
    let target = network.path().join(socket_name(address(4)));
    let peer = bound(network.path(), &socket_name(address(9)));
    for message in [
        [&[wire::ICMPV6 | 0x80, 136][..], &[0; 40]].concat(),
        [&[wire::ICMP | 0x80][..], &[0; 40]].concat(),
        [&[wire::ICMPV6][..], &[0; 40]].concat(),
        vec![wire::UDP | 0x80, 1, 2],
        vec![0x80; 65_000],
    ] {
        peer.send_to(&message, &target).unwrap();
        other.silent();
    }
    let message = [&[wire::UDP | 0x80][..], &datagram(b"x")].concat();
    peer.send_to(&message, &target).unwrap();
    assert_eq!(packet_of(&other.frame()).0.source, address6(9));
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

thread_local! {
    static NOW: std::cell::Cell<u64> = const { std::cell::Cell::new(1_000_000_000) };
}

#[test]
fn what_a_neighbour_has_no_room_for_waits_and_is_not_lost() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut other = guest(network.path(), 4, "other");
    one.stack.now = || NOW.get();
    let (mut sent, mut heard, mut waits) = (0_u16, 0_u16, 0);
    while heard < 1000 {
        if sent < 1000 && one.stack.may_transmit() {
            one.send(&packet(3, 4, wire::UDP, &datagram(&sent.to_be_bytes())));
            sent += 1;
            continue;
        }
        waits += 1;
        one.stack.may_transmit();
        other.wait(1);
        while let Some(frame) = other.take() {
            let (_, rest) = packet_of(&frame);
            assert_eq!(rest[wire::UDP_LENGTH..], heard.to_be_bytes());
            heard += 1;
            one.stack.may_transmit();
        }
    }
    assert!(waits > 1, "there was room for all of them");
}

#[test]
fn who_does_not_read_holds_the_others_up_for_a_moment_only() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one");
    let mut deaf = guest(network.path(), 4, "deaf");
    let mut third = guest(network.path(), 5, "third");
    one.stack.now = || NOW.get();
    let fill = |one: &mut Guest| {
        for number in 0..1000 {
            if !one.stack.may_transmit() {
                return number;
            }
            one.send(&packet(3, 4, wire::UDP, &datagram(&[1; 1000])));
        }
        1000
    };
    assert!(fill(&mut one) < 1000);
    NOW.set(NOW.get() + 9_999_999);
    assert!(!one.stack.may_transmit());
    NOW.set(NOW.get() + 1);
    assert!(one.stack.may_transmit());
    // From now on it waits for nobody, and reaches the others.
    assert_eq!(fill(&mut one), 1000);
    one.send(&packet(3, 5, wire::UDP, &datagram(b"third")));
    assert_eq!(packet_of(&third.frame()).1[wire::UDP_LENGTH..], *b"third");
    // Until it reads.
    deaf.wait(1000);
    while deaf.take().is_some() {}
    let room = fill(&mut one);
    assert!((1..1000).contains(&room), "{room}");
    one.stack.reset();
    assert!(one.stack.may_transmit());
}

#[test]
fn names_lead_to_who_is_there() {
    let network = tempfile::tempdir().unwrap();
    let mut one = guest(network.path(), 3, "one,both");
    let other = guest(network.path(), 4, "other,both");
    assert_eq!(resolves(&mut one, 3, "OTHER", 1), Some(vec![4]));
    assert_eq!(resolves(&mut one, 3, "other", 16), Some(vec![]));
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

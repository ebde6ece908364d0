//! UDP, DNS, echoes, and what the gateway says for itself.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use super::*;

fn udp_of(frame: &[u8]) -> (IpAddr, u16, u16, Vec<u8>) {
    let (ip, rest) = packet_of(frame);
    assert_eq!(ip.protocol, wire::UDP, "{frame:?}");
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    (ip.source, port(0), port(2), rest[8..].to_vec())
}

fn socket() -> (UdpSocket, (IpAddr, u16)) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, (gateway(), port))
}

#[test]
fn datagrams_pass_whole_and_come_back_whole() {
    for offload in [ALL, Offload::default()] {
        let mut guest = Guest::new();
        guest.offload = offload;
        let (socket, remote) = socket();
        for length in [0, 1, 3000, 60_000] {
            let data = vec![9; length];
            guest.send(&udp_frame(remote.0, (7000, remote.1), &data));
            let mut heard = vec![0; 1 << 16];
            let (size, peer) = socket.recv_from(&mut heard).unwrap();
            assert_eq!(heard[..size], data);
            socket.send_to(&heard[..size], peer).unwrap();
            let frame = guest.frame();
            assert_eq!(udp_of(&frame), (remote.0, remote.1, 7000, data));
            if !offload.checksum {
                let (ip, rest) = packet_of(&frame);
                let ends = Ends {
                    source: ip.source,
                    destination: ip.destination,
                    ..from_guest(ip.source)
                };
                let pseudo = ends.pseudo_header(wire::UDP, rest.len()).to_be_bytes();
                assert_eq!(wire::checksum(&[&pseudo, &rest]), 0);
            }
        }
    }
}

#[test]
fn a_port_where_nobody_listens_is_said_to_be_unreachable() {
    let mut guest = Guest::new();
    let (closed, remote) = socket();
    drop(closed);
    guest.send(&udp_frame(remote.0, (7000, remote.1), b"?"));
    let (ip, rest) = packet_of(&guest.frame());
    assert_eq!((ip.protocol, rest[0], rest[1]), (wire::ICMP, 3, 3));
    // The packet it is about: our address, our port, theirs.
    assert_eq!(rest[8 + 12..8 + 16], GUEST.0.octets());
    assert_eq!(rest[28..30], 7000_u16.to_be_bytes());
    assert_eq!(rest[30..32], remote.1.to_be_bytes());
    assert_eq!(wire::checksum(&[&rest]), 0);
}

#[test]
fn a_published_port_leads_to_the_guest_and_its_answers_back() {
    let (bound, (_, number)) = socket();
    bound.set_nonblocking(true).unwrap();
    let port = Port {
        transport: Transport::Udp,
        guest: 53,
        socket: OwnedFd::from(bound),
    };
    let mut guest = Guest::with_ports(Settings::default(), vec![port]);
    let (peer, _) = socket();
    for text in [&b"one"[..], b"two"] {
        peer.send_to(text, (Ipv4Addr::LOCALHOST, number)).unwrap();
        let (source, from, to, data) = udp_of(&guest.frame());
        assert_eq!((source, to, &data[..]), (gateway(), 53, text));
        guest.send(&udp_frame(source, (53, from), b"answer"));
        let mut heard = [0; 16];
        let (size, sender) = peer.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..size], sender.port()), (&b"answer"[..], number));
    }
}

#[test]
fn the_gateway_is_found_and_answers() {
    let mut guest = Guest::new();
    let mut question = [&[0xff; 6][..], &crate::MAC, &[8, 6]].concat();
    question.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(crate::MAC);
    question.extend(GUEST.0.octets());
    question.extend([0; 6]);
    question.extend(GATEWAY.0.octets());
    guest.send(&question);
    let answer = guest.frame();
    assert_eq!(answer[20..22], [0, 2]);
    assert_eq!(answer[22..28], GATEWAY_MAC);
    assert_eq!(answer[28..32], GATEWAY.0.octets());
    // Who is not the gateway is not there.
    let last = question.len() - 1;
    question[last] = 77;
    guest.send(&question);
    guest.silent();
    let all_nodes: IpAddr = "ff02::1:ff00:2".parse().unwrap();
    let mut question = vec![135, 0, 0, 0, 0, 0, 0, 0];
    question.extend(GATEWAY.1.octets());
    guest.send(&frame(all_nodes, wire::ICMPV6, &question));
    let (ip, rest) = packet_of(&guest.frame());
    assert_eq!((ip.source, rest[0]), (IpAddr::V6(GATEWAY.1), 136));
    assert_eq!(rest[26..32], GATEWAY_MAC);
    for (remote, kinds) in [(gateway(), [8, 0]), (GATEWAY.1.into(), [128, 129])] {
        let echo = [kinds[0], 0, 0, 0, 1, 2, 0, 1, b'h', b'i'];
        let protocol = datagram::echo_protocol(remote);
        guest.send(&frame(remote, protocol, &echo));
        let (ip, rest) = packet_of(&guest.frame());
        assert_eq!((ip.source, rest[0]), (remote, kinds[1]));
        assert_eq!(rest[4..], echo[4..]);
    }
}

/// A query for the addresses of a name.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

/// The answer to it.
fn answer(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut out = query.to_vec();
    out[2] = 0x81;
    out[7] = 1;
    out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    out.extend(address);
    out
}

/// A name server that says that everything is at one address; the port is the real one, so it takes root.
struct Names(UdpSocket);

impl Names {
    fn new(last: u8) -> (Self, IpAddr) {
        let address = Ipv4Addr::new(127, 53, 0, last);
        let socket = UdpSocket::bind((address, 53)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        (Self(socket), address.into())
    }

    fn answer(&self, address: [u8; 4]) -> Vec<u8> {
        let mut query = [0; 512];
        let (length, peer) = self.0.recv_from(&mut query).unwrap();
        let query = &query[..length];
        self.0.send_to(&answer(query, address), peer).unwrap();
        query.to_vec()
    }
}

#[test]
fn the_gateway_passes_questions_on_and_tries_the_next_server() {
    let (names, address) = Names::new(1);
    let (silent, first) = Names::new(2);
    let mut guest = Guest::with(Settings {
        resolvers: vec![first, address],
        ..Settings::default()
    });
    let asked = query(77, "example.org");
    guest.send(&udp_frame(gateway(), (3000, 53), &asked));
    let mut buffer = [0; 512];
    assert_eq!(silent.0.recv(&mut buffer).unwrap(), asked.len());
    guest.send(&udp_frame(gateway(), (3000, 53), &asked));
    assert_eq!(names.answer([192, 0, 2, 1]), asked);
    let (_, _, _, heard) = udp_of(&guest.frame());
    assert_eq!(heard, answer(&asked, [192, 0, 2, 1]));
}

#[test]
fn names_decide_where_rules_name_them() {
    let (names, address) = Names::new(3);
    let mut guest = Guest::with(Settings {
        egress: rules(&["*.example.org:443", "127.0.0.1"]),
        resolvers: vec![address],
        ..Settings::default()
    });
    let there: IpAddr = "192.0.2.9".parse().unwrap();
    assert!(guest.stack.route(there, Some(443)).is_none());
    guest.send(&udp_frame(
        gateway(),
        (3000, 53),
        &query(1, "www.Example.ORG"),
    ));
    names.answer([192, 0, 2, 9]);
    udp_of(&guest.frame());
    assert!(guest.stack.route(there, Some(443)).is_some());
    assert!(guest.stack.route(there, Some(80)).is_none());
    // Another name is not even asked for.
    guest.send(&udp_frame(gateway(), (3000, 53), &query(2, "example.com")));
    let (_, _, _, refusal) = udp_of(&guest.frame());
    assert_eq!(refusal[..4], [0, 2, 0x81, 0x85]);
    names.0.set_nonblocking(true).unwrap();
    assert!(names.0.recv(&mut [0; 512]).is_err());
    // No rule and no answer lead where nobody may go.
    guest.send(&udp_frame(
        gateway(),
        (3000, 53),
        &query(3, "www.example.org"),
    ));
    names.0.set_nonblocking(false).unwrap();
    names.answer([169, 254, 169, 254]);
    udp_of(&guest.frame());
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    assert!(guest.stack.route(metadata, Some(443)).is_none());
    assert!(
        guest
            .stack
            .route(Ipv4Addr::LOCALHOST.into(), Some(80))
            .is_none()
    );
    // Within a stream nobody would see names.
    let syn = Segment {
        source: 5,
        flags: flag::SYN,
        ..Segment::default()
    };
    guest.tell((gateway(), 53), syn, &[]);
    assert!(guest.hear().segment.has(flag::RST));
}

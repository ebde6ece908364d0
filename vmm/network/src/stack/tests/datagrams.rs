//! UDP, DNS, echoes, and what the gateway says for itself.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use super::*;

pub(super) fn udp_of(frame: &[u8]) -> (IpAddr, u16, u16, Vec<u8>) {
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
    // Also where one comes right after the other.
    for _ in 0..2 {
        guest.send(&udp_frame(remote.0, (7001, remote.1), b"?"));
    }
    let (ip, rest) = packet_of(&guest.frame());
    assert_eq!((ip.protocol, rest[0], rest[1]), (wire::ICMP, 3, 3));
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

//! What goes wrong on the host's side is what the guest sees: no way, nobody there, a reset, a full backlog.

use std::os::fd::OwnedFd;

use super::tcp::connected;
use super::*;
use crate::tcp::Next;

#[test]
fn what_a_peer_said_before_it_reset_is_heard_before_the_reset() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    // It has not read this, so its end is a reset.
    peer.say(&mut guest, 0, b"unread");
    peer.hear(&mut guest);
    stream.write_all(&[7; 3000]).unwrap();
    drop(stream);
    // What is sent in between finds nobody, and hurries nothing.
    peer.repeat(&mut guest, 0, b"more");
    let mut heard = Vec::new();
    loop {
        let next = guest.hear();
        if next.segment.has(flag::RST) {
            break;
        }
        if next.data.is_empty() {
            continue;
        }
        assert_eq!(next.segment.sequence, peer.expected);
        peer.expected = peer
            .expected
            .wrapping_add(next.data.len().try_into().unwrap());
        heard.extend(next.data);
        peer.say(&mut guest, 0, &[]);
    }
    assert_eq!(heard, [7; 3000]);
    guest.silent();
}

#[test]
fn a_guest_that_does_not_listen_any_more_hears_of_a_reset_when_it_does() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    peer.window = 0;
    peer.say(&mut guest, 0, b"unread");
    peer.hear(&mut guest);
    stream.write_all(b"last").unwrap();
    drop(stream);
    guest.silent();
    peer.window = 100;
    peer.say(&mut guest, 0, &[]);
    assert_eq!(guest.hear().data, b"last");
    assert!(guest.hear().segment.has(flag::RST));
}

/// What ICMP says of a packet: type and code, protocol and first bytes of what it is about.
fn unreachable(guest: &mut Guest) -> ([u8; 2], u8, [u8; 8]) {
    let (ip, rest) = packet_of(&guest.frame());
    let (own, header) = match ip.source {
        IpAddr::V4(_) => (wire::ICMP, 20),
        IpAddr::V6(_) => (wire::ICMPV6, 40),
    };
    assert_eq!(ip.protocol, own);
    let about = if header == 20 {
        rest[8 + 9]
    } else {
        rest[8 + 6]
    };
    let head = rest[8 + header..][..8].try_into().unwrap();
    ([rest[0], rest[1]], about, head)
}

#[test]
fn where_the_host_has_no_way_the_guest_hears_so_at_once() {
    let syn = Segment {
        source: 5,
        destination: 9,
        sequence: 0x0102_0304,
        flags: flag::SYN,
        ..Segment::default()
    };
    let head = [0, 5, 0, 9, 1, 2, 3, 4];
    let mut guest = Guest::new();
    for (remote, error, told) in [
        ("192.0.2.7", Errno::NETUNREACH, [3, 0]),
        ("192.0.2.7", Errno::HOSTUNREACH, [3, 1]),
        ("2001:db8::7", Errno::AFNOSUPPORT, [1, 0]),
        ("2001:db8::7", Errno::NETUNREACH, [1, 0]),
        ("2001:db8::7", Errno::HOSTUNREACH, [1, 3]),
    ] {
        let remote: IpAddr = remote.parse().unwrap();
        guest.stack.refuse(remote, &syn, error);
        assert_eq!(unreachable(&mut guest), (told, wire::TCP, head), "{error}");
    }
    guest.stack.refuse(gateway(), &syn, Errno::CONNREFUSED);
    assert!(guest.hear().segment.has(flag::RST));
    guest.silent();
}

#[test]
fn what_the_host_hears_while_it_connects_is_what_the_guest_hears() {
    for (error, told) in [
        (Errno::HOSTUNREACH, Next::Refused(Errno::HOSTUNREACH)),
        (Errno::CONNREFUSED, Next::Refused(Errno::CONNREFUSED)),
        // The guest asks as often as the host did: it knows by itself.
        (Errno::TIMEDOUT, Next::End),
    ] {
        let (listener, remote) = server();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let syn = Segment::default();
        let mut connecting = Connection::outward(socket.into(), remote, (GUEST.0.into(), 1), &syn);
        assert_eq!(connecting.fail(error), told);
    }
}

#[test]
fn a_full_backlog_keeps_the_guest_waiting_until_there_is_room() {
    let listener = full_backlog();
    let address = listener.local_addr().unwrap();
    let waiting: Vec<_> = (0..3).map(|_| connecting(address)).collect();
    let mut guest = Guest::new();
    let syn = Segment {
        source: 40_000,
        sequence: 9,
        flags: flag::SYN,
        ..Segment::default()
    };
    for _ in 0..3 {
        guest.tell((gateway(), address.port()), syn, &[]);
        guest.silent();
    }
    drop(waiting);
    let accepting = std::thread::spawn(move || while listener.accept().is_ok() {});
    let answer = guest.hear().segment;
    assert_eq!(
        (answer.flags, answer.acknowledged),
        (flag::SYN | flag::ACK, 10)
    );
    drop(accepting);
}

#[test]
fn a_guest_that_never_answers_is_asked_for_two_minutes() {
    let (listener, remote) = server();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut asked = Connection::inward(stream.into(), remote, (GUEST.0.into(), 80));
    assert_eq!(asked.tick(), Next::Wait, "nothing is in flight");
    let mut room = [0; 100];
    let (mut again, mut ticks) = (0, 0);
    loop {
        let slice = VolatileSlice::from(&mut room[..]);
        let ends = from_guest(remote.0);
        asked.write(&mut Writer::from(slice), ALL, &ends, &mut Vec::new());
        let next = loop {
            ticks += 1;
            match asked.tick() {
                Next::Wait => {}
                next => break next,
            }
        };
        if next == Next::Reset {
            break;
        }
        assert_eq!(next, Next::Send);
        again += 1;
    }
    // Four of them are a second.
    assert_eq!((again, ticks / 4), (33, 127));
}

/// A server of this host's with room for one that waits.
fn full_backlog() -> TcpListener {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    bind(&socket, &any).unwrap();
    listen(&socket, 0).unwrap();
    socket.into()
}

fn connecting(address: SocketAddr) -> OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
    let (family, flags) = (AddressFamily::INET, SocketFlags::NONBLOCK);
    let socket = socket_with(family, SocketType::STREAM, flags, None).unwrap();
    let _ = connect(&socket, &address);
    socket
}

#[test]
fn a_published_port_whose_guest_does_not_answer_is_asked_again_until_it_does() {
    let (listener, _) = server();
    let address = listener.local_addr().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let mut guest = Guest::new();
    guest.stack.connected(80, accepted.into(), Some(peer));
    // Its backlog is full: it answers nothing, as Linux does.
    let first = guest.hear().segment;
    let again = guest.hear().segment;
    assert_eq!((first.flags, first.sequence), (flag::SYN, again.sequence));
    stream.write_all(b"waits").unwrap();
    // Now it has room.
    let mut peer = Peer {
        remote: (gateway(), first.source),
        port: 80,
        next: 500,
        expected: first.sequence.wrapping_add(1),
        window: 65535,
    };
    let answer = Segment {
        source: 80,
        sequence: 499,
        acknowledged: peer.expected,
        flags: flag::SYN | flag::ACK,
        window: 65535,
        ..Segment::default()
    };
    guest.tell(peer.remote, answer, &[]);
    let heard = loop {
        let heard = peer.hear(&mut guest);
        if !heard.data.is_empty() {
            break heard.data;
        }
    };
    assert_eq!(heard, b"waits");
}

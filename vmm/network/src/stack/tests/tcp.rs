//! Connections, from the first segment to the last.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use super::*;

pub(super) fn connected(guest: &mut Guest) -> (TcpStream, Peer) {
    let (listener, remote) = server();
    let peer = Peer::connect(guest, remote, 40000);
    let (stream, _) = listener.accept().unwrap();
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).unwrap();
    (stream, peer)
}

#[test]
fn carries_data_both_ways_and_ends_each_way_on_its_own() {
    for offload in [ALL, Offload::default()] {
        let mut guest = Guest::new();
        guest.offload = offload;
        let (mut stream, mut peer) = connected(&mut guest);
        peer.say(&mut guest, flag::PSH, b"question");
        assert_eq!(peer.hear(&mut guest).segment.acknowledged, peer.next);
        let mut heard = [0; 8];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"question");
        stream.write_all(b"answer").unwrap();
        assert_eq!(peer.hear(&mut guest).data, b"answer");
        // The guest ends its half; the other one goes on.
        peer.say(&mut guest, flag::FIN, b"!");
        assert_eq!(peer.hear(&mut guest).segment.acknowledged, peer.next);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"!");
        stream.write_all(b"more").unwrap();
        assert_eq!(peer.hear(&mut guest).data, b"more");
        drop(stream);
        assert!(peer.hear(&mut guest).segment.has(flag::FIN));
        guest.silent();
        // Nothing is left of it.
        peer.say(&mut guest, 0, b"?");
        assert!(guest.hear().segment.has(flag::RST));
    }
}

#[test]
fn checksums_are_right_where_they_are_not_left_to_the_guest() {
    let mut guest = Guest::new();
    guest.offload = Offload::default();
    let (mut stream, _peer) = connected(&mut guest);
    for data in [&b"odd"[..], b"even"] {
        stream.write_all(data).unwrap();
        let frame = guest.frame();
        let (ip, rest) = packet_of(&frame);
        let ends = Ends {
            source: ip.source,
            destination: ip.destination,
            ..from_guest(ip.source)
        };
        let pseudo = ends.pseudo_header(wire::TCP, rest.len()).to_be_bytes();
        assert_eq!(wire::checksum(&[&pseudo, &rest]), 0, "{frame:?}");
    }
}

#[test]
fn large_data_comes_in_large_pieces_that_say_their_size() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    peer.window = 65535;
    peer.say(&mut guest, 0, &[]);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            stream.write_all(&sent).unwrap();
            stream
        }
    });
    let (mut heard, mut longest) = (Vec::new(), 0);
    while heard.len() < sent.len() {
        let piece = peer.hear(&mut guest).data;
        longest = longest.max(piece.len());
        heard.extend(piece);
    }
    assert!(heard == sent);
    assert!(longest > 30_000, "{longest}");
    drop(writer.join().unwrap());
}

#[test]
fn without_segments_pieces_are_as_long_as_the_guest_wants_them() {
    let mut guest = Guest::new();
    guest.offload.segments = false;
    let (mut stream, mut peer) = connected(&mut guest);
    stream.write_all(&[1; 5000]).unwrap();
    let mut left = 5000;
    while left != 0 {
        let piece = peer.hear(&mut guest).data.len();
        assert!(piece <= 1460, "{piece}");
        left -= piece;
    }
}

#[test]
fn a_guest_that_sends_again_is_understood_and_heard_once() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    peer.repeat(&mut guest, 0, b"abc");
    peer.say(&mut guest, 0, b"abcdef");
    peer.next -= 3;
    peer.say(&mut guest, 0, b"defg");
    // From the future: a hole is not filled.
    peer.next += 1;
    peer.repeat(&mut guest, 0, b"ijk");
    peer.next -= 1;
    peer.say(&mut guest, flag::FIN, b"hi");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "abcdefghi");
}

#[test]
fn what_the_guest_does_not_acknowledge_comes_again() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    stream.write_all(b"first").unwrap();
    let lost = guest.hear();
    // The clock brings it.
    let again = guest.hear();
    assert_eq!(
        (lost.data, lost.segment.sequence),
        (again.data, again.segment.sequence)
    );
    // And so do complaints.
    peer.expected = peer.expected.wrapping_add(2);
    for _ in 0..4 {
        peer.say(&mut guest, 0, &[]);
    }
    let rest = peer.hear(&mut guest);
    assert_eq!(rest.data, b"rst");
    stream.write_all(b"second").unwrap();
    assert_eq!(peer.hear(&mut guest).data, b"second");
}

#[test]
fn a_closed_window_holds_data_back_until_it_opens() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    peer.window = 0;
    peer.say(&mut guest, 0, &[]);
    stream.write_all(b"wait").unwrap();
    guest.silent();
    peer.window = 100;
    peer.say(&mut guest, 0, &[]);
    assert_eq!(peer.hear(&mut guest).data, b"wait");
}

#[test]
fn a_peer_that_does_not_read_stops_the_guest_and_loses_nothing() {
    let mut guest = Guest::new();
    let (mut stream, mut peer) = connected(&mut guest);
    let piece = vec![7; 60_000];
    let (mut sent, mut window) = (0, usize::MAX);
    while window >= piece.len() {
        peer.say(&mut guest, 0, &piece);
        sent += piece.len();
        let heard = peer.hear(&mut guest).segment;
        assert_eq!(heard.acknowledged, peer.next);
        window = usize::from(heard.window) << 6;
        assert!(sent < 64 << 20, "nothing stops it");
    }
    assert!(guest.stack.backlog != 0 && guest.stack.backlog <= 1 << 20);
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; sent];
        stream.read_exact(&mut all).unwrap();
        (stream, all)
    });
    // The guest hears that there is room again.
    while (usize::from(peer.hear(&mut guest).segment.window) << 6) < piece.len() {}
    while guest.stack.backlog != 0 {
        guest.wait(1000);
    }
    let (_stream, all) = reader.join().unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
}

#[test]
fn resets_go_both_ways() {
    let mut guest = Guest::new();
    // Nobody listens.
    let (listener, remote) = server();
    drop(listener);
    let syn = Segment {
        source: 5,
        sequence: 9,
        flags: flag::SYN,
        ..Segment::default()
    };
    guest.tell(remote, syn, &[]);
    let answer = guest.hear().segment;
    assert_eq!(
        (answer.flags, answer.acknowledged),
        (flag::RST | flag::ACK, 10)
    );
    // The host's peer resets.
    let (stream, _peer) = connected(&mut guest);
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert!(guest.hear().segment.has(flag::RST));
    // The guest resets.
    let (listener, remote) = server();
    let mut peer = Peer::connect(&mut guest, remote, 40001);
    let (mut stream, _) = listener.accept().unwrap();
    peer.say(&mut guest, flag::RST, &[]);
    assert!(stream.read(&mut [0]).is_err());
    guest.silent();
}

#[test]
fn a_published_port_leads_to_the_guest() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let port = Port {
        transport: Transport::Tcp,
        guest: 80,
        socket: OwnedFd::from(listener),
    };
    let mut guest = Guest::with_ports(Settings::default(), vec![port]);
    let mut stream = TcpStream::connect(address).unwrap();
    let syn = guest.hear();
    assert_eq!(
        (syn.segment.flags, syn.segment.destination),
        (flag::SYN, 80)
    );
    // This host's loopback is not the guest's.
    assert_eq!(syn.source, gateway());
    assert_eq!(syn.segment.source, stream.local_addr().unwrap().port());
    let mut peer = Peer {
        remote: (syn.source, syn.segment.source),
        port: 80,
        next: 500,
        expected: syn.segment.sequence.wrapping_add(1),
        window: 65535,
    };
    let answer = Segment {
        most: Some(1460),
        scale: Some(7),
        source: 80,
        sequence: 499,
        acknowledged: peer.expected,
        flags: flag::SYN | flag::ACK,
        window: 65535,
        ..Segment::default()
    };
    guest.tell(peer.remote, answer, &[]);
    assert_eq!(peer.hear(&mut guest).segment.flags, flag::ACK);
    stream.write_all(b"GET").unwrap();
    assert_eq!(peer.hear(&mut guest).data, b"GET");
    peer.say(&mut guest, 0, b"OK");
    let mut heard = [0; 2];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"OK");
    stream.shutdown(Shutdown::Write).unwrap();
    while !peer.hear(&mut guest).segment.has(flag::FIN) {}
    // Nobody in the guest listens: the next one is reset.
    let mut refused = TcpStream::connect(address).unwrap();
    let syn = guest.hear();
    let reset = Segment {
        source: 80,
        acknowledged: syn.segment.sequence.wrapping_add(1),
        flags: flag::RST | flag::ACK,
        ..Segment::default()
    };
    guest.tell((syn.source, syn.segment.source), reset, &[]);
    assert!(refused.read(&mut [0]).is_err());
}

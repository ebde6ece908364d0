//! Questions for names: who is asked, who answers, and what rules make of it.

use std::net::{Ipv6Addr, UdpSocket};

use super::datagrams::udp_of;
use super::*;

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

/// A guest that asks these servers.
fn asking(resolvers: &[IpAddr]) -> Guest {
    Guest::with(Settings {
        resolvers: resolvers.to_vec(),
        ..Settings::default()
    })
}

fn ask(guest: &mut Guest, port: u16, query: &[u8]) {
    guest.send(&udp_frame(gateway(), (port, 53), query));
}

/// The same question for the other family.
fn query6(id: u16, name: &str) -> Vec<u8> {
    let mut query = query(id, name);
    let place = query.len() - 3;
    query[place] = 28;
    query
}

#[test]
fn the_gateway_passes_questions_on_and_stays_with_the_server_that_answers() {
    let (names, address) = Names::new(1);
    let (silent, first) = Names::new(2);
    let mut guest = asking(&[first, address]);
    // As libraries do: both families from one socket, and nothing again for seconds.
    let both = [query(77, "example.org"), query6(78, "example.org")];
    let mut buffer = [0; 512];
    let start = Instant::now();
    for asked in &both {
        ask(&mut guest, 3000, asked);
        assert_eq!(silent.0.recv(&mut buffer).unwrap(), asked.len());
    }
    let serving = std::thread::spawn(move || {
        let heard = [(); 2].map(|()| names.answer([192, 0, 2, 1]));
        (names, heard)
    });
    for asked in &both {
        let (_, _, _, heard) = udp_of(&guest.frame());
        assert_eq!(heard, answer(asked, [192, 0, 2, 1]));
    }
    let (names, heard) = serving.join().unwrap();
    assert_eq!(heard, both);
    assert!(start.elapsed() < Duration::from_secs(4), "{start:?}");
    // From now on nobody waits, whatever came in between.
    for number in 0..5 {
        let both = [query(number, "a.test"), query6(number + 100, "a.test")];
        for asked in &both {
            ask(&mut guest, 3001 + number, asked);
        }
        for asked in &both {
            assert_eq!(names.answer([192, 0, 2, 2]), *asked);
            let (_, _, _, heard) = udp_of(&guest.frame());
            assert_eq!(heard, answer(asked, [192, 0, 2, 2]));
        }
    }
    silent.0.set_nonblocking(true).unwrap();
    assert!(silent.0.recv(&mut buffer).is_err(), "it is left alone");
}

#[test]
fn a_server_that_refuses_is_passed_over_at_once_and_all_of_them_are_said_to() {
    let (names, address) = Names::new(4);
    let refusing: [IpAddr; 2] = [[127, 53, 0, 5].into(), Ipv6Addr::LOCALHOST.into()];
    let mut guest = asking(&[refusing[0], refusing[1], address]);
    ask(&mut guest, 3000, &query(1, "a.test"));
    let serving = std::thread::spawn(move || names.answer([192, 0, 2, 1]));
    assert_eq!(udp_of(&guest.frame()).3[..2], [0, 1]);
    serving.join().unwrap();
    for servers in [&refusing[..], &refusing[..1]] {
        let mut guest = asking(servers);
        for number in 0..2 {
            // The second one finds what became of the first.
            ask(&mut guest, 3000, &query(number, "a.test"));
            ask(&mut guest, 3000, &query6(number + 10, "a.test"));
            let (ip, rest) = packet_of(&guest.frame());
            assert_eq!((ip.protocol, rest[0], rest[1]), (wire::ICMP, 3, 3));
            guest.silent();
        }
    }
}

#[test]
fn servers_that_never_answer_leave_nothing_behind() {
    let silent = [Names::new(6), Names::new(7)];
    let mut guest = asking(&[silent[0].1, silent[1].1]);
    for number in 0..600 {
        ask(&mut guest, 3000 + number, &query(number, "a.test"));
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(14) {
        guest.wait(1000);
        assert!(guest.take().is_none());
    }
    // It is as if nobody had asked; what was written down is the last.
    let flows = guest.stack.flows.numbers();
    let left = flows.filter(|number| guest.stack.flows.get(*number).is_some());
    assert_eq!(left.count(), 0);
    guest.silent();
    assert_eq!(guest.stack.set, 0, "the clock stands");
}

#[test]
fn a_host_that_resolves_by_others_has_the_guest_ask_them() {
    let (silent, gone) = Names::new(8);
    let (names, new) = Names::new(9);
    let (host, own) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let mut guest = asking(&[gone]);
    guest.stack = guest.stack.heed(own.into()).unwrap();
    let asked = query(7, "a.test");
    ask(&mut guest, 3000, &asked);
    assert_eq!(silent.0.recv(&mut [0; 512]).unwrap(), asked.len());
    assert_eq!(host.recv(&mut [0; 8]).unwrap(), 1, "the host is asked");
    host.send(&crate::encode_servers(&[new])).unwrap();
    guest.wait(1000);
    assert_eq!(names.answer([192, 0, 2, 1]), asked);
    assert_eq!(udp_of(&guest.frame()).3, answer(&asked, [192, 0, 2, 1]));
    ask(&mut guest, 3001, &asked);
    assert_eq!(names.answer([192, 0, 2, 1]), asked);
    guest.frame();
    // A host that is gone changes nothing.
    drop(host);
    guest.wait(100);
    ask(&mut guest, 3002, &asked);
    assert_eq!(names.answer([192, 0, 2, 1]), asked);
}

#[test]
fn a_rule_by_name_holds_for_both_families_asked_at_once() {
    let (names, address) = Names::new(10);
    let mut guest = Guest::with(Settings {
        egress: rules(&["a.test:443"]),
        resolvers: vec![address],
        ..Settings::default()
    });
    for asked in [query(1, "a.test"), query6(2, "a.test")] {
        ask(&mut guest, 3000, &asked);
    }
    for _ in 0..2 {
        names.answer([192, 0, 2, 9]);
        guest.frame();
    }
    let there: IpAddr = "192.0.2.9".parse().unwrap();
    assert!(guest.stack.route(there, Some(443)).is_some());
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

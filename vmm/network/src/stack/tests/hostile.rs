//! A guest that means harm: nothing panics, nothing grows without bound, nothing gets out.

use super::*;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn syn(port: u16) -> Segment {
    Segment {
        source: port,
        flags: flag::SYN,
        ..Segment::default()
    }
}

#[test]
fn nothing_but_the_guests_own_address_speaks() {
    let mut guest = Guest::new();
    let (listener, remote) = server();
    listener.set_nonblocking(true).unwrap();
    let segment = Segment {
        destination: remote.1,
        ..syn(1)
    };
    let mut spoofed = tcp_frame(remote.0, &segment, &[]);
    spoofed[ETHERNET_LENGTH + 15] = 99;
    guest.send(&spoofed);
    guest.silent();
    assert!(listener.accept().is_err());
}

#[test]
fn fragments_and_extension_headers_go_nowhere() {
    let mut guest = Guest::new();
    let (listener, remote) = server();
    listener.set_nonblocking(true).unwrap();
    let segment = Segment {
        destination: remote.1,
        ..syn(1)
    };
    for fragment in [[0x20, 0], [0, 1], [0x1f, 0xff]] {
        let mut frame = tcp_frame(remote.0, &segment, &[]);
        frame[ETHERNET_LENGTH + 6..ETHERNET_LENGTH + 8].copy_from_slice(&fragment);
        guest.send(&frame);
    }
    for protocol in [0, 43, 44, 50, 60, 135, 4, 41] {
        guest.send(&frame(GATEWAY.1.into(), protocol, &[6; 64]));
        guest.send(&frame(gateway(), protocol, &[6; 64]));
    }
    guest.silent();
    assert!(listener.accept().is_err());
}

#[test]
fn nobody_takes_the_gateways_place_by_arp_or_ndp() {
    let mut guest = Guest::new();
    let other = [0x02, 0, 0, 0, 0, 0x66];
    // "I have the gateway's address", as an answer and unasked; and the same of an address outside.
    for (operation, address) in [
        (2, GATEWAY.0),
        (2, Ipv4Addr::new(192, 0, 2, 1)),
        (3, GATEWAY.0),
    ] {
        let mut claim = [
            &[0xff; 6][..],
            &other,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        ]
        .concat();
        claim.extend(other);
        claim.extend(address.octets());
        claim.extend(GATEWAY_MAC);
        claim.extend(GUEST.0.octets());
        guest.send(&claim);
        // Cut off anywhere it is nothing either.
        for length in 0..claim.len() {
            guest.send(&claim[..length]);
        }
    }
    for target in [GATEWAY.1, "2001:db8::1".parse().unwrap()] {
        let mut claim = vec![136, 0, 0, 0, 0xe0, 0, 0, 0];
        claim.extend(target.octets());
        claim.extend([2, 1]);
        claim.extend(other);
        for to in ["ff02::1", "fe80::2", "fd68:756c:6c::2"] {
            guest.send(&frame(to.parse().unwrap(), wire::ICMPV6, &claim));
        }
    }
    // A router that would like to be one.
    let advertisement = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8]].concat();
    guest.send(&frame(
        "ff02::1".parse().unwrap(),
        wire::ICMPV6,
        &advertisement,
    ));
    guest.silent();
    // All that comes is still the gateway's, and to whoever the guest is.
    let (listener, remote) = server();
    Peer::connect(&mut guest, remote, 40000);
    listener.accept().unwrap();
}

#[test]
fn segments_of_any_size_and_with_odd_options_do_no_harm() {
    let mut guest = Guest::new();
    let (listener, remote) = server();
    let mut peer = Peer::connect(&mut guest, remote, 40000);
    let (mut stream, _) = listener.accept().unwrap();
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).unwrap();
    let mut expected = Vec::new();
    for length in [1, 1, 0, 1, 2, 65_000, 1, 65_000, 3] {
        let data: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
        peer.say(&mut guest, 0, &data);
        expected.extend(data);
    }
    let mut heard = vec![0; expected.len()];
    std::io::Read::read_exact(&mut stream, &mut heard).unwrap();
    assert!(heard == expected);
    while guest.take().is_some() {}
    // Options that claim any length, headers that claim more than there is, and frames that are cut off.
    for option in [
        [0, 0, 0, 0],
        [2, 0, 0, 0],
        [2, 1, 0, 0],
        [2, 255, 0, 0],
        [3, 3, 255, 0],
        [2, 4, 0, 0],
    ] {
        for words in 0..16 {
            let mut frame = tcp_frame(
                remote.0,
                &Segment {
                    destination: remote.1,
                    ..syn(50_000)
                },
                &option,
            );
            frame[ETHERNET_LENGTH + 20 + 12] = words << 4;
            for length in ETHERNET_LENGTH..=frame.len() {
                guest.send(&frame[..length]);
            }
        }
    }
    for _ in 0..1000 {
        guest.take();
    }
    // The connection is as it was.
    peer.say(&mut guest, 0, b"and on");
    let mut heard = [0; 6];
    std::io::Read::read_exact(&mut stream, &mut heard).unwrap();
    assert_eq!(&heard, b"and on");
}

#[test]
fn places_that_are_the_hosts_alone_are_refused() {
    let mut guest = Guest::with(Settings::default());
    let (_listener, (_, port)) = server();
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "10.0.2.2",
        "10.0.2.3",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "64:ff9b::7f00:1",
        "fd68:756c:6c::2",
        "fd68:756c:6c::3",
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert!(
            guest.stack.route(address, Some(port)).is_none(),
            "{address}"
        );
        guest.tell((address, port), syn(1), &[]);
        assert!(guest.hear().segment.has(flag::RST), "{address}");
    }
}

#[test]
fn half_open_connections_are_bounded() {
    let mut guest = Guest::new();
    let (_listener, remote) = server();
    for port in 1..=u16::MAX {
        guest.tell(remote, syn(port), &[]);
        if port % 64 == 0 {
            while guest.take().is_some() {}
        }
        assert!(guest.stack.flows.numbers().len() <= MOST_FLOWS);
        assert!(guest.stack.small.len() <= MOST_SMALL);
    }
    guest.stack.reset();
    assert!(
        guest
            .stack
            .flows
            .numbers()
            .all(|n| guest.stack.flows.get(n).is_none())
    );
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut guest = Guest::new();
    let echo = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &[1; 1400]].concat();
    for _ in 0..5000 {
        guest.send(&frame(gateway(), wire::ICMP, &echo));
    }
    assert!(guest.stack.small_bytes <= MOST_SMALL_BYTES);
    assert!(guest.stack.small.len() <= MOST_SMALL);
}

#[test]
fn any_bytes_are_survived() {
    let mut guest = Guest::new();
    let (_listener, remote) = server();
    let mut dice = Dice(0x6875_6c6c);
    let _peer = Peer::connect(&mut guest, remote, 4444);
    for round in 0..20_000_u32 {
        let segment = Segment {
            source: 4444,
            destination: remote.1,
            sequence: u32::try_from(dice.roll() & 0xffff).unwrap(),
            acknowledged: u32::try_from(dice.roll() >> 32).unwrap(),
            flags: u8::try_from(dice.roll() & 0x3f).unwrap(),
            window: u16::try_from(dice.roll() & 0xffff).unwrap(),
            most: Some(0),
            scale: Some(255),
        };
        let mut bytes = match round % 4 {
            0 => tcp_frame(remote.0, &segment, &[1; 100]),
            1 => udp_frame(gateway(), (1, 53), &[3; 40]),
            2 => frame(GATEWAY.1.into(), wire::ICMPV6, &[128; 40]),
            _ => frame(gateway(), wire::ICMP, &[8, 0, 0, 0, 9, 9]),
        };
        for _ in 0..dice.roll() % 4 {
            let place = usize::try_from(dice.roll()).unwrap() % bytes.len();
            bytes[place] = u8::try_from(dice.roll() & 0xff).unwrap();
        }
        bytes.truncate(usize::try_from(dice.roll() % 200).unwrap());
        guest.send(&bytes);
        if round % 16 == 0 {
            guest.wait(0);
            for _ in 0..32 {
                guest.take();
            }
        }
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let place =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/frames");
    let mut files: Vec<_> = std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

#[test]
fn the_corpus_and_what_is_near_it_do_no_harm() {
    let mut dice = Dice(0x006e_6574);
    for bytes in corpus() {
        crate::fuzz::frames(&bytes);
        // What has everything takes its time.
        let times = if bytes[0] < 0xe0 { 200 } else { 20 };
        for _ in 0..times {
            let mut bytes = bytes.clone();
            for _ in 0..=dice.roll() % 4 {
                let place = usize::try_from(dice.roll()).unwrap() % bytes.len();
                bytes[place] = u8::try_from(dice.roll() & 0xff).unwrap();
            }
            crate::fuzz::frames(&bytes);
        }
    }
}

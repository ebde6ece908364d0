//! A guest that has everything: a server behind its gateway, published ports, neighbours, name servers, limits and a journal. All of them
//! are sockets of this process, and the guest says only what can reach no others. Refuses to know what is right.

use std::cell::Cell;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};

use self::others::flow;
use super::*;
use crate::datagram::Content;
use crate::servers::Turn;
use crate::{Rates, Transport, address_in, encode_servers, link_name, socket_name};

mod others;

/// Most flows: one for each that the guest can name, and one for each that a step can make.
const MOST: usize = 64 + STEPS;
/// The guest's ports of its flows to name servers and of its echoes.
const ASKS: u16 = 9;
/// Last numbers of neighbours: one that is there, and one that is not.
const NEIGHBOURS: [u8; 2] = [20, 21];
/// Whom the guest pings: an address that it may not have, so that nothing leaves once the flow that is there from the start is gone.
const PINGED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Where packets go to be lost (RFC 6666).
const NOWHERE: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);
/// Names by letters: the first two are in the rules, and the third is a neighbour's.
const NAMES: [&[u8]; 6] = [
    b"\x01a\x04test\0",
    b"\x01b\x01A\x04test\0",
    b"\x06beside\0",
    b"\x05other\0",
    b"\x03a.b\0",
    b"\xc0\x0c",
];

thread_local! {
    /// The stack's time, which passes when a step says so.
    static TIME: Cell<u64> = const { Cell::new(1) };
}

/// The network and all that is at its other ends.
pub(super) struct Town {
    stack: Stack,
    directory: PathBuf,
    neighbour: UnixDatagram,
    server: TcpListener,
    answers: UdpSocket,
    /// Where published ports are, and who sends to them.
    published: [SocketAddr; 2],
    peer: UdpSocket,
    /// Nobody listens there.
    closed: u16,
    streams: Vec<TcpStream>,
    /// The other ends of the guest's flows to a name server and to whom it pings; and the host, which tells of name servers.
    names: UnixDatagram,
    pinged: UnixDatagram,
    host: UnixDatagram,
    /// What the guest acknowledged last.
    acknowledged: u32,
}

impl Town {
    /// The bits say which limits there are.
    pub(super) fn new(bits: u8) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(format!("hull-town-{process}-{count}"));
        let _ = std::fs::create_dir(&directory);
        let [own, beside] = [GUEST.0, neighbour(NEIGHBOURS[0])]
            .map(|address| bound(UnixDatagram::bind(directory.join(socket_name(address)))));
        let link = directory.join(link_name(neighbour(NEIGHBOURS[0])));
        let _ = std::os::unix::fs::symlink("beside,a", link);
        let neighbours = Neighbours {
            socket: own.into(),
            directory: std::fs::File::open(&directory).unwrap().into(),
            prefix: "/proc/self/fd/",
        };
        let rules = ["a.test", "*.a.test:7", "100::/64"].map(|rule| rule.parse().unwrap());
        let slow = |bit| (bits & bit != 0).then_some(1 << 20);
        let settings = Settings {
            host: true,
            egress: (bits & 1 != 0).then(|| rules.into()),
            resolvers: (9..9 + (bits >> 1 & 3)).map(resolver).collect(),
            rates: Rates {
                inward: slow(8),
                outward: slow(16),
            },
            ..Settings::default()
        };
        let any = (Ipv4Addr::LOCALHOST, 0);
        let [server, port] = [(); 2].map(|()| TcpListener::bind(any).unwrap());
        let [answers, door, peer, closed] = [(); 4].map(|()| {
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        for listener in [&server, &port] {
            listener.set_nonblocking(true).unwrap();
        }
        let published = [port.local_addr().unwrap(), door.local_addr().unwrap()];
        let ports = vec![
            publish(Transport::Tcp, port.into()),
            publish(Transport::Udp, door.into()),
        ];
        let file = || memfd_create("journal", MemfdFlags::CLOEXEC).unwrap();
        let journal = Files {
            log: file(),
            counts: file(),
        };
        let (host, told) = pair();
        let stack = Stack::new(settings, ports, Some(neighbours), Some(journal)).unwrap();
        let mut stack = stack.heed(told.into()).unwrap();
        TIME.set(1);
        stack.now = || TIME.get();
        let names = flow(
            &mut stack,
            wire::UDP,
            (GATEWAY.0, dns::PORT),
            Content::Dns(Turn::new(0)),
        );
        let pinged = flow(&mut stack, wire::ICMP, (PINGED, 0), Content::Echo);
        let closed = closed.local_addr().unwrap().port();
        Self {
            stack,
            directory,
            neighbour: beside,
            server,
            answers,
            published,
            peer,
            closed,
            streams: Vec::new(),
            names,
            pinged,
            host,
            acknowledged: 0,
        }
    }

    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 14 {
            0 => self.raw(input),
            1 => self.message(input),
            2..=4 => self.segment(input),
            5 => self.datagram(input),
            6 => self.query(input),
            7 => self.streams(input),
            8 => self.datagrams(input),
            9 | 10 => receive(&mut self.stack, input),
            11 => {
                TIME.set(TIME.get() + (u64::from(input.byte()) << 22));
                self.stack.line_free();
                for _ in 0..input.byte() % 64 {
                    self.stack.tick();
                }
            }
            12 => self.find(input),
            _ => self.stack.reset(),
        }
        assert!(self.stack.flows.numbers().len() <= MOST, "flows grow");
    }

    pub(super) fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    fn transmit(&mut self, to: IpAddr, protocol: u8, payload: &[u8]) {
        let source = self.stack.guest(to);
        let ends = Ends {
            guest_mac: GATEWAY_MAC,
            gateway_mac: crate::MAC,
            source,
            destination: to,
        };
        let mut out = Vec::new();
        ends.write(&mut out, protocol, payload.len());
        out.extend(payload);
        if self.stack.may_transmit() {
            transmit(&mut self.stack, &out);
        }
    }

    /// Whom the guest may say anything to, as nobody is there whom it could reach.
    fn place(&self, choice: u8) -> IpAddr {
        let v6 = |address| address_in(0, address).into();
        match choice % 10 {
            0 => neighbour(NEIGHBOURS[0]).into(),
            1 => v6(neighbour(NEIGHBOURS[0])),
            2 => neighbour(NEIGHBOURS[1]).into(),
            3 => v6(neighbour(NEIGHBOURS[1])),
            4 => NOWHERE.into(),
            5 => Ipv4Addr::LOCALHOST.into(),
            6 => GUEST.0.into(),
            7 => GUEST.1.into(),
            8 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
            _ => Ipv4Addr::new(224, 0, 0, 1).into(),
        }
    }

    fn gateway(choice: u8) -> IpAddr {
        match choice & 1 {
            0 => GATEWAY.0.into(),
            _ => GATEWAY.1.into(),
        }
    }

    fn raw(&mut self, input: &mut Input<'_>) {
        let to = self.place(input.byte());
        let protocol = match input.byte() {
            choice @ 0..5 => {
                [wire::TCP, wire::UDP, wire::ICMP, wire::ICMPV6, 2][usize::from(choice)]
            }
            other => other,
        };
        self.transmit(to, protocol, input.bytes());
    }

    /// An echo, or a message of the link.
    fn message(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let to = match choice % 4 {
            0 => Self::gateway(choice >> 2),
            1 => PINGED.into(),
            _ => self.place(choice >> 2),
        };
        let kinds: [u8; 6] = [8, 128, 135, 136, 0, 129];
        let kind = kinds[usize::from(input.byte()) % kinds.len()];
        let mut message = vec![kind, 0, 0, 0, 0, input.byte(), 0, 0];
        match kind {
            135 => message.extend(address_in(0, neighbour(input.byte())).octets()),
            _ => message.extend(input.bytes()),
        }
        message.resize(message.len() + usize::from(input.byte()) * 16, 0);
        let protocol = datagram::echo_protocol(to);
        self.transmit(to, protocol, &message);
    }

    /// The ports behind the gateway that are this process's, and one that is nobody's.
    fn behind(&self, choice: u8, stream: bool) -> u16 {
        let server = match stream {
            true => self.server.local_addr(),
            false => self.answers.local_addr(),
        };
        match choice % 4 {
            0 => self.closed,
            1 => dns::PORT,
            _ => server.unwrap().port(),
        }
    }

    fn segment(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let mut keys = Vec::new();
        for number in self.stack.flows.numbers() {
            if let Some((Some(key), Flow::Tcp(_))) = self.stack.flows.get(number) {
                keys.push(key);
            }
        }
        let key = match keys.get(usize::from(choice >> 2)) {
            Some(key) => *key,
            None => Key {
                protocol: wire::TCP,
                guest: u16::from(choice >> 5) + 1,
                remote: match choice & 15 {
                    15 => (NOWHERE.into(), 80),
                    _ => (Self::gateway(choice >> 4), self.behind(choice, true)),
                },
            },
        };
        let known = self.stack.flows.find(&key);
        let known = known.and_then(|number| match self.stack.flows.get(number) {
            Some((_, Flow::Tcp(connection))) => Some(connection.reset()),
            _ => None,
        });
        let known = known.unwrap_or_default();
        let (flags, offset) = (input.byte(), input.byte());
        let near = |nibble: u8| u32::from(nibble & 15).wrapping_sub(u32::from(nibble & 8) << 1);
        // Bit 7 says that it acknowledges no more than before.
        if flags & 0x80 == 0 {
            self.acknowledged = known.sequence.wrapping_add(near(offset >> 4));
        }
        let syn = flags & flag::SYN != 0;
        let segment = Segment {
            source: key.guest,
            destination: key.remote.1,
            sequence: known.acknowledged.wrapping_add(near(offset)),
            acknowledged: self.acknowledged,
            flags: flags & 0x3f,
            window: u16::from(input.byte()) << 8,
            most: syn.then(|| u16::from(input.byte()) * 16),
            scale: syn.then(|| input.byte()),
        };
        let mut payload = Vec::new();
        wire::write_tcp(&mut payload, &segment, 0);
        payload.resize(payload.len() + usize::from(input.byte()) * 250, b'x');
        self.transmit(key.remote.0, wire::TCP, &payload);
    }

    fn datagram(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        // To a server, or back to whoever sent something to the published port.
        let (source, to) = match choice % 4 {
            0 => {
                let port = self.peer.local_addr().unwrap().port();
                (PORT, (GATEWAY.0.into(), port))
            }
            1 => (5, (NOWHERE.into(), 7)),
            _ => match self.behind(choice >> 2, false) {
                dns::PORT => return,
                port => (
                    u16::from(choice >> 5) + 5,
                    (Self::gateway(choice >> 4), port),
                ),
            },
        };
        self.say(source, to, &[b'x'].repeat(usize::from(input.byte()) * 64));
    }

    fn say(&mut self, source: u16, to: (IpAddr, u16), data: &[u8]) {
        let mut payload = Vec::new();
        wire::write_udp(&mut payload, source, to.1, data.len());
        payload.extend(data);
        self.transmit(to.0, wire::UDP, &payload);
    }

    /// A question for a name, by the flow that has a server or by one that has to find it.
    fn query(&mut self, input: &mut Input<'_>) {
        let (choice, kind) = (input.byte(), input.byte());
        let source = match choice & 1 {
            0 => ASKS,
            _ => u16::from(choice >> 6) + 20,
        };
        let mut query = vec![0, choice >> 1 & 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        match NAMES.get(usize::from(kind >> 3)) {
            Some(name) => query.extend(*name),
            None => query.extend(input.bytes()),
        }
        query.extend([
            0,
            [1, 28, 15, 255][usize::from(kind & 3)],
            0,
            1 + (kind >> 2 & 1),
        ]);
        query.extend(input.bytes());
        self.say(source, (Self::gateway(choice >> 3), dns::PORT), &query);
    }

    /// The guest asks who is on its link.
    fn find(&mut self, input: &mut Input<'_>) {
        let mut question = [&[0xff; 6][..], &crate::MAC, &[8, 6]].concat();
        question.extend([0, 1, 8, 0, 6, 4, 0, 1 + (input.byte() & 1)]);
        question.extend([0; 16]);
        question.extend(neighbour(input.byte()).octets());
        transmit(&mut self.stack, &question);
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn bound(socket: std::io::Result<UnixDatagram>) -> UnixDatagram {
    let socket = socket.unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn pair() -> (UnixDatagram, UnixDatagram) {
    let (one, other) = UnixDatagram::pair().unwrap();
    (bound(Ok(one)), bound(Ok(other)))
}

fn publish(transport: Transport, socket: OwnedFd) -> Port {
    Port {
        transport,
        guest: PORT,
        socket,
    }
}

fn neighbour(last: u8) -> Ipv4Addr {
    let [a, b, c, _] = GATEWAY.0.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// An address of this host where no name server is.
fn resolver(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 53, 1, last).into()
}

//! The stack of one guest: sorts its packets into flows, opens the host's sockets for them, and gives each flow its turn to send.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, acceptfrom_with, connect, recvfrom,
    socket_with, sockopt,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use virtio::{Link, Offload, Reader, Received, Writer};

use crate::datagram::{self, Content, Datagrams, Way};
use crate::egress::Egress;
use crate::flows::{Flows, Key};
use crate::link::{self, GATEWAY_MAC, Unreachable};
use crate::tcp::{self, Connection, Next};
use crate::wire::{self, Ends, Ip, Mac, Segment, flag};
use crate::{GATEWAY, GUEST, Port, Settings, Transport, dns};

/// Most flows at a time.
const MOST_FLOWS: usize = 18_000;
/// Most bytes that wait for sockets of the host's, of all connections.
const MOST_BACKLOG: usize = 64 << 20;
/// Most answers that wait for room in the guest; further ones are lost.
const MOST_SMALL: usize = 256;
/// Most bytes of them: datagrams can be long.
const MOST_SMALL_BYTES: usize = 1 << 20;
/// Events taken at a time, and connections accepted at a time.
const BATCH: usize = 64;

/// The mark of the clock; flows have their numbers.
const CLOCK: u64 = u64::MAX;
/// Nanoseconds of a tick while something in flight is timed, and ticks of the slower clock for flows that may be idle.
const TICK: i64 = 250_000_000;
const SLOW: u32 = 40;
/// Ticks without a datagram after which a flow is forgotten: a minute, and ten seconds for an answered question.
const IDLE: u32 = 240;
const IDLE_DNS: u32 = 40;

/// Events of connections.
const CONNECTION: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

#[derive(Debug)]
enum Flow {
    Tcp(Box<Connection>),
    Datagrams(Datagrams),
    Port(Port),
}

/// A frame that waits for the guest, and what of its checksum is left to it.
#[derive(Debug)]
struct Small {
    bytes: Vec<u8>,
    checksum: Option<(u16, u16)>,
}

/// What a guest is connected to.
#[derive(Debug)]
pub struct Stack {
    settings: Settings,
    egress: Egress,
    watch: OwnedFd,
    clock: OwnedFd,
    /// How many [`TICK`]s the clock was set to; 0 if it stands.
    set: u32,
    flows: Flows<Flow>,
    guest_mac: Mac,
    /// The resolver that is asked now.
    resolver: usize,
    backlog: usize,
    small: VecDeque<Small>,
    small_bytes: usize,
    next_port: u16,
    buffer: Vec<u8>,
    known: Vec<u8>,
}

impl Stack {
    /// A stack for one guest, with the ports that lead to it.
    ///
    /// # Errors
    /// Those of `epoll_create`, `epoll_ctl` and `timerfd_create`.
    pub fn new(settings: Settings, ports: Vec<Port>) -> io::Result<Self> {
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        let clock = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&watch, &clock, EventData::new_u64(CLOCK), EventFlags::IN)?;
        let mut stack = Self {
            egress: Egress::new(settings.egress.clone()),
            guest_mac: settings.mac,
            settings,
            watch,
            clock,
            set: 0,
            flows: Flows::new(MOST_FLOWS),
            resolver: 0,
            backlog: 0,
            small: VecDeque::new(),
            small_bytes: 0,
            next_port: 0,
            buffer: Vec::new(),
            known: Vec::new(),
        };
        for port in ports {
            stack.watch(&port.socket, datagram::EVENTS)?;
            stack.flows.insert(None, Flow::Port(port));
        }
        Ok(stack)
    }

    /// Watches a socket for the flow that is inserted next.
    fn watch(&self, socket: &OwnedFd, events: EventFlags) -> Result<(), Errno> {
        let mark = u64::try_from(self.flows.next_number()).unwrap_or(CLOCK);
        epoll::add(&self.watch, socket, EventData::new_u64(mark), events)
    }

    /// The ends of a packet that comes from `remote`.
    fn ends(&self, remote: IpAddr) -> Ends {
        Ends {
            guest_mac: self.guest_mac,
            gateway_mac: GATEWAY_MAC,
            source: remote,
            destination: self.guest(remote),
        }
    }

    /// The guest's address of the same kind.
    fn guest(&self, remote: IpAddr) -> IpAddr {
        match remote {
            IpAddr::V4(_) => self.settings.address.into(),
            IpAddr::V6(_) => GUEST.1.into(),
        }
    }

    fn say(&mut self, bytes: Vec<u8>, checksum: Option<(u16, u16)>) {
        let total = self.small_bytes.saturating_add(bytes.len());
        if self.small.len() < MOST_SMALL && total <= MOST_SMALL_BYTES {
            self.small_bytes = total;
            self.small.push_back(Small { bytes, checksum });
        }
    }

    fn say_unreachable(&mut self, remote: IpAddr, protocol: u8, head: &[u8], why: Unreachable) {
        let frame = link::unreachable(&self.ends(remote), protocol, head, why);
        self.say(frame, None);
    }

    fn say_segment(&mut self, remote: IpAddr, segment: &Segment) {
        let (mut frame, (pseudo, length)) = tcp::headers(&self.ends(remote), segment, 0);
        let start = frame.len().saturating_sub(length);
        tcp::finish_with(&mut frame, start, pseudo, &[]);
        self.say(frame, None);
    }

    /// Where a packet to this address really goes; `None` if nowhere.
    fn route(&self, address: IpAddr, port: Option<u16>) -> Option<SocketAddr> {
        let number = port.unwrap_or(0);
        if link::is_gateway(address) {
            if number == dns::PORT {
                let resolvers = &self.settings.resolvers;
                let place = self.resolver.checked_rem(resolvers.len())?;
                return Some((*resolvers.get(place)?, dns::PORT).into());
            }
            // Only what listens can be reached this way.
            let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
            return (self.settings.host && port.is_some()).then_some((host, number).into());
        }
        let own = match address {
            IpAddr::V4(address) => address.octets().get(..3) == GATEWAY.0.octets().get(..3),
            IpAddr::V6(address) => address.segments().get(..4) == GATEWAY.1.segments().get(..4),
        };
        let allowed = !own && self.egress.allows(address, port);
        allowed.then_some((address, number).into())
    }

    fn packet(&mut self, mac: Mac, ip: Ip, mut frame: Reader<'_>) -> Option<()> {
        let (source, remote) = (ip.source, ip.destination);
        if ip.protocol == wire::ICMPV6 && !link::is_gateway(remote) && is_link(remote) {
            let answer = link::neighbour(mac, source, &mut frame)?;
            self.say(answer, None);
            return Some(());
        }
        // Nobody else is on this link.
        if source != self.guest(remote) || source.is_ipv4() != remote.is_ipv4() {
            return None;
        }
        self.guest_mac = mac;
        match ip.protocol {
            wire::TCP => self.tcp(remote, frame),
            wire::UDP => self.udp(remote, frame),
            wire::ICMP if remote.is_ipv4() => self.echo(remote, frame),
            wire::ICMPV6 if remote.is_ipv6() => self.echo(remote, frame),
            _ => None,
        }
    }

    fn tcp(&mut self, remote: IpAddr, mut frame: Reader<'_>) -> Option<()> {
        let segment = wire::tcp(&mut frame)?;
        let key = Key {
            protocol: wire::TCP,
            guest: segment.source,
            remote: (remote, segment.destination),
        };
        if let Some(number) = self.flows.find(&key) {
            let (_, flow) = self.flows.get(number)?;
            let Flow::Tcp(connection) = flow else {
                return None;
            };
            let before = connection.backlog();
            let spare = MOST_BACKLOG.saturating_sub(self.backlog);
            let next = connection.hear(&segment, frame, spare);
            self.account(number, before);
            self.follow(number, next);
            return Some(());
        }
        if segment.has(flag::RST) {
            return None;
        }
        if segment.has(flag::SYN) && !segment.has(flag::ACK) {
            match self.connect(&key, &segment) {
                Ok(()) => return Some(()),
                Err(Errno::NETUNREACH | Errno::HOSTUNREACH) => {
                    let mut head = Vec::new();
                    wire::write_tcp(&mut head, &segment, 0);
                    self.say_unreachable(remote, wire::TCP, &head, Unreachable::Host);
                    return Some(());
                }
                Err(_) => {}
            }
        }
        let length = u32::try_from(frame.left()).unwrap_or(0);
        let length = length
            .wrapping_add(segment.has(flag::SYN).into())
            .wrapping_add(segment.has(flag::FIN).into());
        let reset = Segment {
            source: segment.destination,
            destination: segment.source,
            sequence: if segment.has(flag::ACK) {
                segment.acknowledged
            } else {
                0
            },
            acknowledged: segment.sequence.wrapping_add(length),
            flags: flag::RST | flag::ACK,
            ..Segment::default()
        };
        self.say_segment(remote, &reset);
        Some(())
    }

    /// The guest wants to connect.
    fn connect(&mut self, key: &Key, syn: &Segment) -> Result<(), Errno> {
        let (remote, port) = key.remote;
        // Names within a stream are not looked at.
        let unseen = self.egress.is_restricted() && link::is_gateway(remote) && port == dns::PORT;
        let target = self.route(remote, Some(port)).filter(|_| !unseen);
        let target = target.ok_or(Errno::CONNREFUSED)?;
        if self.flows.is_full() {
            return Err(Errno::MFILE);
        }
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // The guest decides when it is worth sending.
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.watch(&socket, CONNECTION)?;
        let local = (self.guest(remote), key.guest);
        let connection = Connection::outward(socket, key.remote, local, syn);
        self.flows.insert(Some(*key), Flow::Tcp(connection.into()));
        Ok(())
    }

    /// Peers have connected to a published port, or sent something there.
    fn accept(&mut self, number: usize) {
        for _ in 0..BATCH {
            let Some((_, Flow::Port(port))) = self.flows.get(number) else {
                return;
            };
            if port.transport == Transport::Udp {
                return self.flows.enqueue(number);
            }
            let guest = port.guest;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&port.socket, flags) {
                Ok((socket, Some(peer))) => self.connected(guest, socket, peer.try_into().ok()),
                Ok((_, None)) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
        // There may be more, which is no new event by itself.
        if let Some((_, Flow::Port(port))) = self.flows.get(number) {
            let mark = EventData::new_u64(u64::try_from(number).unwrap_or(CLOCK));
            let _ = epoll::modify(&self.watch, &port.socket, mark, datagram::EVENTS);
        }
    }

    fn connected(&mut self, guest: u16, socket: OwnedFd, peer: Option<SocketAddr>) {
        let remote = self.seen(wire::TCP, guest, peer);
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        if self.flows.is_full() || self.watch(&socket, CONNECTION).is_err() {
            return;
        }
        let local = (self.guest(remote.0), guest);
        let key = Key {
            protocol: wire::TCP,
            guest,
            remote,
        };
        let connection = Connection::inward(socket, remote, local);
        let flow = Flow::Tcp(connection.into());
        if let Some(number) = self.flows.insert(Some(key), flow) {
            self.flows.enqueue(number);
        }
    }

    /// How the guest sees a peer: by its own address, or as the gateway where that address would mean something else there, or is
    /// IPv6, for which few servers listen.
    fn seen(&mut self, protocol: u8, guest: u16, peer: Option<SocketAddr>) -> (IpAddr, u16) {
        let key = |remote| Key {
            protocol,
            guest,
            remote,
        };
        let peer = peer.map(|peer| (peer.ip().to_canonical(), peer.port()));
        if let Some((address @ IpAddr::V4(inner), port)) = peer
            && crate::egress::is_elsewhere(inner)
            && self.flows.find(&key((address, port))).is_none()
        {
            return (address, port);
        }
        let gateway = IpAddr::V4(GATEWAY.0);
        let mut port = peer.map_or(0, |(_, port)| port);
        for _ in 0..u16::MAX {
            if port != 0 && self.flows.find(&key((gateway, port))).is_none() {
                break;
            }
            self.next_port = self.next_port.wrapping_add(1) | 0x8000;
            port = self.next_port;
        }
        (gateway, port)
    }

    fn udp(&mut self, remote: IpAddr, mut frame: Reader<'_>) -> Option<()> {
        let (guest, port) = wire::udp(&mut frame)?;
        let key = Key {
            protocol: wire::UDP,
            guest,
            remote: (remote, port),
        };
        let number = match self.flows.find(&key) {
            Some(number) => number,
            None => match self.open(&key, Some(port)) {
                Some(number) => number,
                None => {
                    let mut head = Vec::new();
                    wire::write_udp(&mut head, guest, port, frame.left());
                    self.say_unreachable(remote, wire::UDP, &head, Unreachable::Port);
                    return None;
                }
            },
        };
        let resolvers = self.settings.resolvers.len();
        let (_, Flow::Datagrams(flow)) = self.flows.get(number)? else {
            return None;
        };
        flow.idle = 0;
        match (&mut flow.content, &flow.way) {
            (Content::Dns { question, asked }, Way::Own(socket)) => {
                let query = datagram::read(&mut frame)?;
                if *asked != 0 && resolvers > 1 {
                    // The one asked before does not answer.
                    self.resolver = self.resolver.wrapping_add(1);
                    let place = self.resolver.checked_rem(resolvers)?;
                    let next = self.settings.resolvers.get(place)?;
                    let _ = connect(socket, &SocketAddr::new(*next, dns::PORT));
                }
                if self.egress.is_restricted() {
                    let asked = dns::question(&query)?;
                    if !self.egress.allows_name(&asked.name) {
                        let answer = dns::refusal(&query, &asked)?;
                        return self.say_datagram(&key, &answer);
                    }
                    *question = Some(asked);
                }
                *asked = asked.saturating_add(1);
                datagram::put(socket, &query, None);
            }
            (_, Way::Own(socket)) => {
                // One that cannot be sent is lost.
                let _ = frame.send(socket.as_fd(), frame.left());
            }
            (_, Way::Port(port, peer)) => {
                let (port, peer) = (*port, *peer);
                let bytes = datagram::read(&mut frame)?;
                if let (_, Flow::Port(port)) = self.flows.get(port)? {
                    datagram::put(&port.socket, &bytes, Some(peer));
                }
            }
        }
        Some(())
    }

    /// Makes a flow of datagrams, if the guest may send there.
    fn open(&mut self, key: &Key, port: Option<u16>) -> Option<usize> {
        let target = self.route(key.remote.0, port)?;
        if self.flows.is_full() {
            return None;
        }
        let socket = datagram::open(target, key.protocol).ok()?;
        self.watch(&socket, datagram::EVENTS).ok()?;
        let content = match port {
            None => Content::Echo,
            Some(dns::PORT) if link::is_gateway(key.remote.0) => Content::Dns {
                question: None,
                asked: 0,
            },
            Some(_) => Content::Udp,
        };
        self.flows_insert(
            *key,
            Datagrams {
                way: Way::Own(socket),
                content,
                idle: 0,
            },
        )
    }

    fn flows_insert(&mut self, key: Key, flow: Datagrams) -> Option<usize> {
        let number = self.flows.insert(Some(key), Flow::Datagrams(flow))?;
        self.arm(SLOW);
        Some(number)
    }

    fn echo(&mut self, remote: IpAddr, mut frame: Reader<'_>) -> Option<()> {
        let (identifier, message) = link::echo(remote.is_ipv6(), &mut frame)?;
        if link::is_gateway(remote) {
            let answer = link::echo_reply(&self.ends(remote), message)?;
            self.say(answer, None);
            return Some(());
        }
        let key = Key {
            protocol: datagram::echo_protocol(remote),
            guest: identifier,
            remote: (remote, 0),
        };
        let number = match self.flows.find(&key) {
            Some(number) => number,
            None => self.open(&key, None)?,
        };
        let (_, Flow::Datagrams(flow)) = self.flows.get(number)? else {
            return None;
        };
        flow.idle = 0;
        if let Way::Own(socket) = &flow.way {
            datagram::put(socket, &message, None);
        }
        Some(())
    }

    fn say_datagram(&mut self, key: &Key, data: &[u8]) -> Option<()> {
        let ends = self.ends(key.remote.0);
        let length = data.len().saturating_add(wire::UDP_LENGTH);
        let mut out = Vec::with_capacity(length.saturating_add(64));
        ends.write(&mut out, wire::UDP, length);
        let start = out.len();
        wire::write_udp(&mut out, key.remote.1, key.guest, data.len());
        // What a driver without the offload gets is completed when it is given.
        if let Some([high, low]) = out.get_mut(start.saturating_add(6)..) {
            [*high, *low] = ends.pseudo_header(wire::UDP, length).to_be_bytes();
        }
        out.extend(data);
        self.say(out, Some((u16::try_from(start).ok()?, 6)));
        Some(())
    }

    /// Takes one datagram of a flow for the guest. `None`: there is none.
    fn collect(&mut self, number: usize) -> Option<()> {
        self.buffer.resize(1 << 16, 0);
        let (key, flow) = self.flows.get(number)?;
        match flow {
            Flow::Tcp(_) => None,
            Flow::Port(port) => {
                let guest = port.guest;
                let received = recvfrom(&port.socket, &mut self.buffer[..], RecvFlags::DONTWAIT);
                let (length, _, peer) = received.ok()?;
                let peer: SocketAddr = peer?.try_into().ok()?;
                let key = self.answers(number, guest, peer)?;
                let data = std::mem::take(&mut self.buffer);
                self.say_datagram(&key, data.get(..length).unwrap_or_default());
                self.buffer = data;
                Some(())
            }
            Flow::Datagrams(flow) => {
                let key = key?;
                let Way::Own(socket) = &flow.way else {
                    return None;
                };
                let length = match datagram::take(socket, &mut self.buffer) {
                    Ok(length) => length,
                    Err(Errno::AGAIN | Errno::INTR) => return None,
                    Err(_) => {
                        let mut head = Vec::new();
                        wire::write_udp(&mut head, key.guest, key.remote.1, 0);
                        if key.protocol == wire::UDP {
                            let why = Unreachable::Port;
                            self.say_unreachable(key.remote.0, wire::UDP, &head, why);
                        }
                        return Some(());
                    }
                };
                flow.idle = 0;
                let mut data = std::mem::take(&mut self.buffer);
                let bytes = data.get_mut(..length).unwrap_or_default();
                if let Content::Dns { question, asked } = &mut flow.content {
                    *asked = 0;
                    if let Some(question) = question {
                        for address in dns::addresses(bytes, question) {
                            self.egress.pin(&question.name, address);
                        }
                    }
                }
                if matches!(flow.content, Content::Echo) {
                    if bytes.len() >= 8 {
                        datagram::identify(bytes, key.guest, None);
                        let frame = link::message_frame(&self.ends(key.remote.0), bytes.to_vec());
                        self.say(frame, None);
                    }
                } else {
                    self.say_datagram(&key, bytes);
                }
                self.buffer = data;
                Some(())
            }
        }
    }

    /// The flow that leads back to a peer of a published port.
    fn answers(&mut self, port: usize, guest: u16, peer: SocketAddr) -> Option<Key> {
        for number in self.flows.numbers() {
            if let Some((key, Flow::Datagrams(flow))) = self.flows.get(number)
                && matches!(flow.way, Way::Port(own, other) if (own, other) == (port, peer))
            {
                flow.idle = 0;
                return key;
            }
        }
        let key = Key {
            protocol: wire::UDP,
            guest,
            remote: self.seen(wire::UDP, guest, Some(peer)),
        };
        let flow = Datagrams {
            way: Way::Port(port, peer),
            content: Content::Udp,
            idle: 0,
        };
        self.flows_insert(key, flow).map(|_| key)
    }

    /// A connection's backlog was so long before.
    fn account(&mut self, number: usize, before: usize) {
        if let Some((_, Flow::Tcp(connection))) = self.flows.get(number) {
            let now = connection.backlog();
            self.backlog = self.backlog.saturating_add(now).saturating_sub(before);
        }
    }

    /// Does what a connection's step asks for.
    fn follow(&mut self, number: usize, next: Next) {
        match next {
            Next::Wait => {}
            Next::Send => self.flows.enqueue(number),
            Next::End => self.end(number),
            Next::Reset => {
                if let Some((Some(key), Flow::Tcp(connection))) = self.flows.get(number) {
                    let reset = connection.reset();
                    self.say_segment(key.remote.0, &reset);
                }
                self.end(number);
            }
        }
    }

    fn end(&mut self, number: usize) {
        if let Some(Flow::Tcp(connection)) = self.flows.remove(number) {
            self.backlog = self.backlog.saturating_sub(connection.backlog());
        }
    }

    /// Sees to it that the clock goes at least this fast.
    fn arm(&mut self, ticks: u32) {
        if self.set != 0 && self.set <= ticks {
            return;
        }
        let nanoseconds = TICK.saturating_mul(ticks.into());
        let time = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: nanoseconds.checked_div(1_000_000_000).unwrap_or(0),
                tv_nsec: nanoseconds.checked_rem(1_000_000_000).unwrap_or(0),
            },
        };
        if timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &time).is_ok() {
            self.set = ticks;
        }
    }

    /// The clock has run down.
    fn tick(&mut self) {
        let _ = rustix::io::read(&self.clock, &mut [0; 8]);
        let passed = std::mem::take(&mut self.set);
        let (mut fast, mut slow) = (false, false);
        for number in self.flows.numbers() {
            match self.flows.get(number) {
                Some((_, Flow::Tcp(connection))) => {
                    let next = connection.tick();
                    fast |= connection.is_timed();
                    self.follow(number, next);
                }
                Some((_, Flow::Datagrams(flow))) => {
                    flow.idle = flow.idle.saturating_add(passed);
                    let most = match flow.content {
                        Content::Dns { .. } => IDLE_DNS,
                        _ => IDLE,
                    };
                    if flow.idle > most {
                        self.end(number);
                    } else {
                        slow = true;
                    }
                }
                _ => {}
            }
        }
        if fast {
            self.arm(1);
        } else if slow {
            self.arm(SLOW);
        }
    }

    fn event(&mut self, number: usize, events: EventFlags) {
        match self.flows.get(number) {
            Some((_, Flow::Tcp(connection))) => {
                let before = connection.backlog();
                let next = connection.event(events);
                self.account(number, before);
                self.follow(number, next);
            }
            Some((_, Flow::Datagrams(_))) => self.flows.enqueue(number),
            Some((_, Flow::Port(_))) => self.accept(number),
            None => {}
        }
    }
}

/// Whether an address is of use on the link alone.
fn is_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}

impl Link for Stack {
    fn fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn ready(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if epoll::wait(&self.watch, spare_capacity(&mut events), Some(&now)).is_err() {
            return;
        }
        for event in &events {
            match event.data.u64() {
                CLOCK => self.tick(),
                mark => self.event(usize::try_from(mark).unwrap_or(usize::MAX), event.flags),
            }
        }
    }

    fn transmit(&mut self, mut frame: Reader<'_>) {
        let Some((mac, kind)) = wire::ethernet(&mut frame) else {
            return;
        };
        match kind {
            wire::ARP => {
                if let Some(answer) = link::arp(&mut frame) {
                    self.say(answer, None);
                }
            }
            wire::IPV4 => {
                let _ = wire::ipv4(&mut frame).and_then(|ip| self.packet(mac, ip, frame));
            }
            wire::IPV6 => {
                let _ = wire::ipv6(&mut frame).and_then(|ip| self.packet(mac, ip, frame));
            }
            _ => {}
        }
    }

    fn next(&mut self, _: Offload) -> Option<(usize, usize)> {
        loop {
            if let Some(small) = self.small.front() {
                return Some((small.bytes.len(), small.bytes.len()));
            }
            let number = self.flows.first()?;
            if let Some((_, Flow::Tcp(connection))) = self.flows.get(number) {
                return Some(connection.bounds());
            }
            let more = self.collect(number);
            self.flows.dequeue();
            if more.is_some() {
                self.flows.enqueue(number);
            }
        }
    }

    fn receive(&mut self, room: &mut Writer<'_>, offload: Offload) -> Option<Received> {
        if let Some(mut small) = self.small.pop_front() {
            self.small_bytes = self.small_bytes.saturating_sub(small.bytes.len());
            let mut checksum = small.checksum;
            if !offload.checksum
                && let Some((start, place)) = checksum.take()
            {
                // The field holds the sum over the pseudo header.
                let at = usize::from(start).saturating_add(place.into());
                let field = small.bytes.get(at..).and_then(<[u8]>::first_chunk);
                let pseudo = u16::from_be_bytes(field.copied().unwrap_or_default());
                wire::finish(&mut small.bytes, start.into(), place.into(), pseudo);
            }
            let length = room.write(&small.bytes);
            return (length == small.bytes.len()).then_some(Received {
                length,
                checksum,
                segments: None,
            });
        }
        let number = self.flows.first()?;
        self.flows.dequeue();
        let (key, flow) = self.flows.get(number)?;
        let remote = key?.remote.0;
        let Flow::Tcp(_) = flow else { return None };
        let ends = self.ends(remote);
        let (_, Flow::Tcp(connection)) = self.flows.get(number)? else {
            return None;
        };
        let (received, next) = connection.write(room, offload, &ends, &mut self.known);
        let timed = connection.is_timed();
        self.follow(number, next);
        if timed {
            self.arm(1);
        }
        received
    }

    fn reset(&mut self) {
        for number in self.flows.numbers() {
            if !matches!(self.flows.get(number), Some((_, Flow::Port(_)))) {
                self.end(number);
            }
        }
        self.small.clear();
        self.small_bytes = 0;
    }
}

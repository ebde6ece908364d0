//! The stack of one guest: sorts its packets into flows, opens the host's sockets for them, and gives each flow its turn to send.

mod cable;
mod clock;
mod connections;
mod datagrams;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod names;
mod neighbours;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use virtio::{Offload, Reader, Received, Writer};

use self::clock::{COUNTED, SLOW};
use crate::datagram::{self, Datagrams};
use crate::egress::Egress;
use crate::flows::Flows;
use crate::journal::{Denied, Files, Journal};
use crate::link::{self, GATEWAY_MAC, Unreachable};
use crate::neighbours::Neighbours;
use crate::pace::Pace;
use crate::servers::Servers;
use crate::tcp::{self, Connection};
use crate::wire::{self, Ends, Ip, Mac, Segment};
use crate::{GATEWAY, Port, Settings, dns};

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

/// The marks of the clock, and of the one for a line that is busy; flows have their numbers.
const CLOCK: u64 = u64::MAX;
const LINE: u64 = u64::MAX - 1;
/// That of the host's word about name servers.
const SERVERS: u64 = u64::MAX - 2;

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
    /// All that neighbours send.
    Neighbours,
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
    journal: Journal,
    neighbours: Option<Neighbours>,
    /// A packet for one of them that had no room for it, and those that had none for so long that nobody waits for them.
    held: Option<neighbours::Held>,
    deaf: HashSet<Ipv4Addr>,
    watch: OwnedFd,
    clock: OwnedFd,
    /// How many ticks the clock was set to; 0 if it stands.
    set: u32,
    inward: Option<Pace>,
    outward: Option<Pace>,
    line: OwnedFd,
    /// When a busy line is looked at again, if it is waited for.
    line_set: Option<u64>,
    /// The time in nanoseconds.
    now: fn() -> u64,
    flows: Flows<Flow>,
    guest_mac: Mac,
    servers: Servers,
    backlog: usize,
    small: VecDeque<Small>,
    small_bytes: usize,
    next_port: u16,
    buffer: Vec<u8>,
    known: Vec<u8>,
}

impl Stack {
    /// A stack for one guest, with the ports that lead to it, the way to its neighbours, and where it writes down what passes, if
    /// there is any of these.
    ///
    /// # Errors
    /// Those of `epoll_create`, `epoll_ctl` and `timerfd_create`.
    pub fn new(
        settings: Settings,
        ports: Vec<Port>,
        neighbours: Option<Neighbours>,
        journal: Option<Files>,
    ) -> io::Result<Self> {
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        let clock = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&watch, &clock, EventData::new_u64(CLOCK), EventFlags::IN)?;
        let line = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&watch, &line, EventData::new_u64(LINE), EventFlags::IN)?;
        let mut stack = Self {
            inward: settings.rates.inward.map(Pace::new),
            outward: settings.rates.outward.map(Pace::new),
            line,
            line_set: None,
            now: clock::now,
            egress: Egress::new(settings.egress.clone()),
            journal: Journal::new(journal),
            neighbours,
            held: None,
            deaf: HashSet::new(),
            guest_mac: settings.mac,
            servers: Servers::new(settings.resolvers.clone()),
            settings,
            watch,
            clock,
            set: 0,
            flows: Flows::new(MOST_FLOWS),
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
        if let Some(neighbours) = &stack.neighbours {
            stack.watch(neighbours.fd(), datagram::EVENTS)?;
            stack.flows.insert(None, Flow::Neighbours);
        }
        Ok(stack)
    }

    /// The same, which asks `host` whether names are resolved by others now: any message to it is that question, and its answer is what
    /// [`crate::encode_servers`] makes.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn heed(mut self, host: OwnedFd) -> io::Result<Self> {
        let mark = EventData::new_u64(SERVERS);
        epoll::add(&self.watch, &host, mark, datagram::EVENTS)?;
        self.servers.heed(host);
        Ok(self)
    }

    /// Watches a socket for the flow that is inserted next.
    fn watch(&self, socket: impl AsFd, events: EventFlags) -> Result<(), Errno> {
        self.watch_for(self.flows.next_number(), socket, events)
    }

    fn watch_for(&self, number: usize, socket: impl AsFd, events: EventFlags) -> Result<(), Errno> {
        let mark = u64::try_from(number).unwrap_or(CLOCK);
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
            IpAddr::V6(_) => self.settings.address6.into(),
        }
    }

    /// Whether this is the gateway's address.
    fn is_gateway(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address == GATEWAY.0,
            IpAddr::V6(address) => address == self.address6_of(GATEWAY.0),
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
        if self.is_gateway(address) {
            if number == dns::PORT {
                return self.servers.at(self.servers.current());
            }
            // Only what listens can be reached this way.
            let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
            return (self.settings.host && port.is_some()).then_some((host, number).into());
        }
        let own = match address {
            IpAddr::V4(address) => address.octets().get(..3) == GATEWAY.0.octets().get(..3),
            // Nor is another of hull's networks anywhere.
            IpAddr::V6(address) => address.segments().get(..3) == GATEWAY.1.segments().get(..3),
        };
        let allowed = !own && self.egress.allows(address, port);
        allowed.then_some((address, number).into())
    }

    /// The same, and written down if it is nowhere.
    fn permit(&mut self, protocol: u8, address: IpAddr, port: Option<u16>) -> Option<SocketAddr> {
        let found = self.route(address, port);
        if found.is_none() {
            let place = SocketAddr::new(address, port.unwrap_or(0));
            self.deny(match protocol {
                wire::TCP => Denied::Tcp(place),
                wire::UDP => Denied::Udp(place),
                _ => Denied::Echo(address),
            });
        }
        found
    }

    /// There is a flow more.
    fn count(&mut self) {
        let flows = &mut self.journal.counts.flows;
        *flows = flows.saturating_add(1);
        self.arm(COUNTED);
    }

    fn deny(&mut self, place: Denied) {
        self.journal.denied(place);
        self.arm(COUNTED);
    }

    fn packet(&mut self, mac: Mac, ip: Ip, mut frame: Reader<'_>) -> Option<()> {
        let (source, remote) = (ip.source, ip.destination);
        if ip.protocol == wire::ICMPV6 && is_link(remote) {
            let message = datagram::read(&mut frame)?;
            return self.solicited(mac, source, &message);
        }
        // Nobody else is on this link.
        if source != self.guest(remote) || source.is_ipv4() != remote.is_ipv4() {
            return None;
        }
        self.guest_mac = mac;
        if let Some(neighbour) = self.neighbour(remote) {
            return self.send_neighbour(neighbour, remote.is_ipv6(), ip.protocol, frame);
        }
        match ip.protocol {
            wire::TCP => self.tcp(remote, frame),
            wire::UDP => self.udp(remote, frame),
            wire::ICMP if remote.is_ipv4() => self.echo(remote, frame),
            wire::ICMPV6 if remote.is_ipv6() => self.echo(remote, frame),
            _ => None,
        }
    }

    /// The guest asks where somebody is on its link, or makes sure of it.
    fn solicited(&mut self, mac: Mac, source: IpAddr, message: &[u8]) -> Option<()> {
        let is_here = |address| self.is_on_link6(address);
        let answer = link::neighbour(mac, source, message, is_here)?;
        self.say(answer, None);
        Some(())
    }

    /// Writes the next frame for the guest.
    fn give(&mut self, room: &mut Writer<'_>, offload: Offload) -> Option<Received> {
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

    fn event(&mut self, number: usize, events: EventFlags) {
        match self.flows.get(number) {
            Some((_, Flow::Tcp(connection))) => {
                let before = connection.backlog();
                let next = connection.event(events);
                self.account(number, before);
                self.follow(number, next);
            }
            Some((_, Flow::Datagrams(_) | Flow::Neighbours)) => self.flows.enqueue(number),
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

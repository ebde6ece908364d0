//! TCP in the stack: connections that the guest asks for and those that come to published ports.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, connect, socket_with, sockopt,
};
use virtio::Reader;

use super::{BATCH, CLOCK, CONNECTION, COUNTED, Flow, MOST_BACKLOG, Stack};
use crate::flows::Key;
use crate::journal::Denied;
use crate::link::Unreachable;
use crate::tcp::{Connection, Next};
use crate::wire::{self, Segment, flag};
use crate::{GATEWAY, Transport, datagram, dns};

impl Stack {
    pub(super) fn tcp(&mut self, remote: IpAddr, mut frame: Reader<'_>) -> Option<()> {
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
            self.arm(COUNTED);
            return Some(());
        }
        if segment.has(flag::RST) {
            return None;
        }
        if segment.has(flag::SYN) && !segment.has(flag::ACK) {
            match self.connect(&key, &segment) {
                Ok(()) => {}
                Err(error) => self.refuse(remote, &segment, error),
            }
            return Some(());
        }
        self.say_reset(remote, &segment, frame.left());
        Some(())
    }

    /// Tells the guest why the host cannot connect it.
    pub(super) fn refuse(&mut self, remote: IpAddr, syn: &Segment, error: Errno) {
        let Some(why) = Unreachable::by(error) else {
            return self.say_reset(remote, syn, 0);
        };
        let mut head = Vec::new();
        wire::write_tcp(&mut head, syn, 0);
        self.say_unreachable(remote, wire::TCP, &head, why);
    }

    /// The answer to a segment, with so much data, of no connection.
    fn say_reset(&mut self, remote: IpAddr, segment: &Segment, data: usize) {
        let length = u32::try_from(data).unwrap_or(0);
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
    }

    /// The guest wants to connect.
    pub(super) fn connect(&mut self, key: &Key, syn: &Segment) -> Result<(), Errno> {
        let (remote, port) = key.remote;
        // Names within a stream are not looked at.
        let unseen = self.egress.is_restricted() && self.is_gateway(remote) && port == dns::PORT;
        if unseen {
            self.deny(Denied::Tcp((remote, port).into()));
            return Err(Errno::CONNREFUSED);
        }
        let target = self.permit(wire::TCP, remote, Some(port));
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
        self.count();
        Ok(())
    }

    /// Peers have connected to a published port, or sent something there.
    pub(super) fn accept(&mut self, number: usize) {
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

    pub(super) fn connected(&mut self, guest: u16, socket: OwnedFd, peer: Option<SocketAddr>) {
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
            self.count();
        }
    }

    /// How the guest sees a peer: by its own address, or as the gateway where that address would mean something else there, or is
    /// IPv6, for which few servers listen.
    pub(super) fn seen(
        &mut self,
        protocol: u8,
        guest: u16,
        peer: Option<SocketAddr>,
    ) -> (IpAddr, u16) {
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

    /// A connection's backlog was so long before.
    pub(super) fn account(&mut self, number: usize, before: usize) {
        if let Some((_, Flow::Tcp(connection))) = self.flows.get(number) {
            let now = connection.backlog();
            self.backlog = self.backlog.saturating_add(now).saturating_sub(before);
        }
    }

    /// Does what a connection's step asks for.
    pub(super) fn follow(&mut self, number: usize, next: Next) {
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
            Next::Refused(error) => {
                if let Some((Some(key), Flow::Tcp(connection))) = self.flows.get(number) {
                    let syn = connection.syn();
                    self.refuse(key.remote.0, &syn, error);
                }
                self.end(number);
            }
        }
    }

    pub(super) fn end(&mut self, number: usize) {
        match self.flows.remove(number) {
            Some(Flow::Tcp(connection)) => {
                self.backlog = self.backlog.saturating_sub(connection.backlog());
            }
            Some(Flow::Datagrams(_)) => self.servers.forget(number),
            _ => {}
        }
    }
}

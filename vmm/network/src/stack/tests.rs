//! A fake guest speaks raw frames with the stack, whose sockets are real ones of this host's loopback.

mod datagrams;
mod failures;
mod hostile;
mod names;
mod neighbours;
mod rates;
mod tcp;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use virtio::Link as _;
use vm_memory::VolatileSlice;

use super::*;
use crate::egress::Rule;
use crate::link::GATEWAY_MAC;
use crate::wire::{ETHERNET_LENGTH, flag};
use crate::{GUEST, Transport};

const ALL: Offload = Offload {
    checksum: true,
    segments: true,
};

/// The guest's end of the cable.
pub(super) struct Guest {
    pub(super) stack: Stack,
    pub(super) offload: Offload,
}

/// A segment from the stack.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) segment: Segment,
    pub(super) source: IpAddr,
    pub(super) data: Vec<u8>,
}

impl Guest {
    /// A guest whose gateway is the host.
    pub(super) fn new() -> Self {
        Self::with(Settings {
            host: true,
            ..Settings::default()
        })
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self::with_ports(settings, Vec::new())
    }

    pub(super) fn with_ports(settings: Settings, ports: Vec<Port>) -> Self {
        Self {
            stack: Stack::new(settings, ports, None, None).unwrap(),
            offload: ALL,
        }
    }

    pub(super) fn send(&mut self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        let slice = VolatileSlice::from(&mut frame[..]);
        self.stack
            .transmit([0; virtio::HEADER], Reader::from(slice));
    }

    /// The next frame, if there is one now.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let (least, most) = self.stack.next(self.offload)?;
        assert!(least <= most);
        let mut room = vec![0; 1 << 17];
        let slice = VolatileSlice::from(&mut room[..]);
        let received = self.stack.receive(&mut Writer::from(slice), self.offload)?;
        assert!(received.length <= most, "{received:?} {most}");
        room.truncate(received.length);
        Some(room)
    }

    /// The next frame, waiting for it.
    pub(super) fn frame(&mut self) -> Vec<u8> {
        let start = Instant::now();
        loop {
            // What is queued may come to nothing.
            for _ in 0..10 {
                if let Some(frame) = self.take() {
                    return frame;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no frame came");
            self.wait(1000);
        }
    }

    /// Lets the stack see what happened to its sockets.
    pub(super) fn wait(&mut self, milliseconds: i64) {
        let timeout = Timespec {
            tv_sec: milliseconds / 1000,
            tv_nsec: milliseconds % 1000 * 1_000_000,
        };
        let mut fds = [PollFd::from_borrowed_fd(self.stack.fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap() != 0 {
            self.stack.ready();
        }
    }

    pub(super) fn hear(&mut self) -> Heard {
        let frame = self.frame();
        segment_of(&frame)
    }

    /// Nothing comes, however long one waits for what is under way.
    pub(super) fn silent(&mut self) {
        for _ in 0..5 {
            self.wait(10);
            if let Some(frame) = self.take() {
                panic!("heard {frame:?}");
            }
        }
    }

    /// Sends a TCP segment to `remote`.
    pub(super) fn tell(&mut self, remote: (IpAddr, u16), segment: Segment, data: &[u8]) {
        let segment = Segment {
            destination: remote.1,
            ..segment
        };
        self.send(&tcp_frame(remote.0, &segment, data));
    }
}

/// The gateway, which these tests' host is behind.
pub(super) fn gateway() -> IpAddr {
    IpAddr::V4(GATEWAY.0)
}

fn from_guest(remote: IpAddr) -> Ends {
    let own: IpAddr = match remote {
        IpAddr::V4(_) => GUEST.0.into(),
        IpAddr::V6(_) => GUEST.1.into(),
    };
    Ends {
        guest_mac: GATEWAY_MAC,
        gateway_mac: crate::MAC,
        source: own,
        destination: remote,
    }
}

/// Any packet of the guest's.
pub(super) fn frame(remote: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    from_guest(remote).write(&mut out, protocol, payload.len());
    out.extend(payload);
    out
}

pub(super) fn tcp_frame(remote: IpAddr, segment: &Segment, data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::write_tcp(&mut payload, segment, 0);
    payload.extend(data);
    frame(remote, wire::TCP, &payload)
}

pub(super) fn udp_frame(remote: IpAddr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::write_udp(&mut payload, ports.0, ports.1, data.len());
    payload.extend(data);
    frame(remote, wire::UDP, &payload)
}

/// Takes a frame apart: its IP header, and what follows.
pub(super) fn packet_of(frame: &[u8]) -> (Ip, Vec<u8>) {
    let mut bytes = frame.to_vec();
    let slice = VolatileSlice::from(&mut bytes[..]);
    let mut reader = Reader::from(slice);
    let (mac, kind) = wire::ethernet(&mut reader).unwrap();
    assert_eq!(mac, GATEWAY_MAC);
    let ip = match kind {
        wire::IPV4 => {
            let header = &frame[ETHERNET_LENGTH..ETHERNET_LENGTH + 20];
            assert_eq!(wire::checksum(&[header]), 0);
            wire::ipv4(&mut reader).unwrap()
        }
        wire::IPV6 => wire::ipv6(&mut reader).unwrap(),
        other => panic!("kind {other:#x}"),
    };
    let mut rest = vec![0; reader.left()];
    reader.read(&mut rest);
    (ip, rest)
}

pub(super) fn segment_of(frame: &[u8]) -> Heard {
    let (ip, mut rest) = packet_of(frame);
    assert_eq!(ip.protocol, wire::TCP, "{frame:?}");
    let slice = VolatileSlice::from(&mut rest[..]);
    let mut reader = Reader::from(slice);
    let segment = wire::tcp(&mut reader).unwrap();
    let mut data = vec![0; reader.left()];
    reader.read(&mut data);
    Heard {
        segment,
        source: ip.source,
        data,
    }
}

/// The guest's end of one connection.
pub(super) struct Peer {
    pub(super) remote: (IpAddr, u16),
    pub(super) port: u16,
    pub(super) next: u32,
    pub(super) expected: u32,
    pub(super) window: u16,
}

impl Peer {
    /// Connects the guest to `remote`.
    pub(super) fn connect(guest: &mut Guest, remote: (IpAddr, u16), port: u16) -> Self {
        let syn = Segment {
            source: port,
            sequence: 1000,
            flags: flag::SYN,
            window: 65535,
            most: Some(1460),
            scale: Some(7),
            ..Segment::default()
        };
        guest.tell(remote, syn, &[]);
        let answer = guest.hear();
        assert_eq!(answer.segment.flags, flag::SYN | flag::ACK);
        assert_eq!(answer.segment.acknowledged, 1001);
        assert!(answer.segment.most.is_some() && answer.segment.scale.is_some());
        let mut peer = Self {
            remote,
            port,
            next: 1001,
            expected: answer.segment.sequence.wrapping_add(1),
            window: 2000,
        };
        peer.say(guest, 0, &[]);
        peer
    }

    /// Sends data or an end, and acknowledges.
    pub(super) fn say(&mut self, guest: &mut Guest, flags: u8, data: &[u8]) {
        self.repeat(guest, flags, data);
        let end = u32::from(flags & flag::FIN != 0);
        self.next = self
            .next
            .wrapping_add(u32::try_from(data.len()).unwrap() + end);
    }

    /// Sends it without moving on.
    pub(super) fn repeat(&self, guest: &mut Guest, flags: u8, data: &[u8]) {
        let segment = Segment {
            source: self.port,
            sequence: self.next,
            acknowledged: self.expected,
            flags: flags | flag::ACK,
            window: self.window,
            ..Segment::default()
        };
        guest.tell(self.remote, segment, data);
    }

    /// Hears one segment in its order, acknowledges it.
    pub(super) fn hear(&mut self, guest: &mut Guest) -> Heard {
        let heard = guest.hear();
        assert_eq!(heard.segment.sequence, self.expected);
        let end = u32::from(heard.segment.has(flag::FIN));
        let length = u32::try_from(heard.data.len()).unwrap() + end;
        self.expected = self.expected.wrapping_add(length);
        if length != 0 {
            self.say(guest, 0, &[]);
        }
        heard
    }
}

/// A server on this host, and where the guest finds it.
pub(super) fn server() -> (TcpListener, (IpAddr, u16)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, (gateway(), port))
}

pub(super) fn rules(texts: &[&str]) -> Option<Vec<Rule>> {
    Some(texts.iter().map(|text| text.parse().unwrap()).collect())
}

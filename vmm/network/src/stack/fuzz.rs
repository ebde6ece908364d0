//! A hostile guest made of bytes, at the end of a cable: either its other end may go nowhere, one connection is there already, and any bytes
//! are sent; or there is everything at its other end, and what is sent is whole. For the fuzz target `frames`, whose corpus the tests
//! replay. Refuses to know what is right: nothing may panic or grow.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "guest and host made for tests may panic"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use virtio::Link as _;
use vm_memory::VolatileSlice;

use self::town::Town;
use super::*;
use crate::GUEST;
use crate::flows::Key;
use crate::wire::flag;

mod town;

/// Most steps of one run.
const STEPS: usize = 256;
/// The guest's port of the connection.
const PORT: u16 = 80;

/// Runs one sequence of steps.
pub fn frames(bytes: &[u8]) {
    let mut input = Input(bytes);
    match bytes.first() {
        Some(&bits @ 0xe0..) => {
            input.byte();
            everything(bits, input);
        }
        _ => nowhere(input),
    }
}

fn everything(bits: u8, mut input: Input<'_>) {
    let mut town = Town::new(bits);
    for _ in 0..STEPS {
        if input.0.is_empty() {
            break;
        }
        town.step(&mut input);
        bounded(town.stack());
    }
    town.stack().reset();
    assert_eq!(town.stack().backlog, 0);
}

fn bounded(stack: &Stack) {
    assert!(stack.small.len() <= MOST_SMALL && stack.small_bytes <= MOST_SMALL_BYTES);
}

fn nowhere(mut input: Input<'_>) {
    let settings = Settings {
        egress: Some(Vec::new()),
        ..Settings::default()
    };
    let mut stack = Stack::new(settings, Vec::new(), None, None).unwrap();
    let (mut host, remote) = connection(&mut stack);
    let key = Key {
        protocol: wire::TCP,
        guest: PORT,
        remote,
    };
    let mut sequence = 1_u32;
    for _ in 0..STEPS {
        if input.0.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => transmit(&mut stack, input.bytes()),
            1 => transmit(&mut stack, &packet(input.byte(), input.bytes())),
            2..=4 => {
                let segment = segment(&mut stack, &key, &mut input, &mut sequence);
                let data = vec![b'x'; usize::from(input.byte()) * 256];
                let mut payload = Vec::new();
                wire::write_tcp(&mut payload, &segment, 0);
                payload.extend(data);
                transmit(&mut stack, &packet_to(remote.0, wire::TCP, &payload));
            }
            5 => {
                let _ = host.write(&vec![b'y'; usize::from(input.byte()) * 256]);
            }
            6 => {
                let _ = host.read(&mut [0; 1 << 16]);
            }
            _ => receive(&mut stack, &mut input),
        }
        bounded(&stack);
        assert!(stack.flows.numbers().len() <= 1, "it went somewhere");
    }
    stack.reset();
    assert_eq!(stack.backlog, 0);
}

/// The guest takes what there is for it.
fn receive(stack: &mut Stack, input: &mut Input<'_>) {
    stack.ready();
    let offload = Offload {
        checksum: input.byte() & 1 == 0,
        segments: input.byte() & 1 == 0,
    };
    let mut room = vec![0; usize::from(input.byte()) * 300];
    for _ in 0..8 {
        if stack.next(offload).is_none() {
            break;
        }
        let slice = VolatileSlice::from(&mut room[..]);
        stack.receive(&mut Writer::from(slice), offload);
    }
}

/// A connection from this host to the guest.
fn connection(stack: &mut Stack) -> (TcpStream, (IpAddr, u16)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    host.set_nonblocking(true).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    stack.connected(PORT, accepted.into(), Some(peer));
    (host, (GATEWAY.0.into(), peer.port()))
}

/// A segment that may fit the connection.
fn segment(stack: &mut Stack, key: &Key, input: &mut Input<'_>, sequence: &mut u32) -> Segment {
    // What a guest would know: what it was sent last.
    let number = stack.flows.find(key);
    let known = number.and_then(|number| match stack.flows.get(number) {
        Some((_, Flow::Tcp(connection))) => Some(connection.reset()),
        _ => None,
    });
    let (flags, offset) = (input.byte() & 0x3f, input.byte());
    let segment = Segment {
        source: PORT,
        destination: key.remote.1,
        sequence: sequence.wrapping_add(u32::from(offset & 15)),
        acknowledged: known.map_or(0, |known| {
            known
                .sequence
                .wrapping_add(u32::from(offset >> 4))
                .wrapping_sub(1)
        }),
        flags,
        window: u16::from(input.byte()) << 8,
        most: Some(u16::from(input.byte()) * 16),
        scale: Some(input.byte()),
    };
    if let Some(known) = known.filter(|_| flags & flag::SYN == 0) {
        *sequence = known.acknowledged;
    }
    segment
}

fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet_to(GATEWAY.0.into(), protocol, payload)
}

fn packet_to(remote: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ends = Ends {
        guest_mac: GATEWAY_MAC,
        gateway_mac: crate::MAC,
        source: GUEST.0.into(),
        destination: remote,
    };
    let mut out = Vec::new();
    ends.write(&mut out, protocol, payload.len());
    out.extend(payload);
    out
}

fn transmit(stack: &mut Stack, frame: &[u8]) {
    let mut frame = frame.to_vec();
    let slice = VolatileSlice::from(&mut frame[..]);
    stack.transmit([0; virtio::HEADER], Reader::from(slice));
}

/// Bytes that say what happens; zeros once they are used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    /// Some bytes, at most 255.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (front, back) = self.0.split_at(length);
        self.0 = back;
        front
    }
}

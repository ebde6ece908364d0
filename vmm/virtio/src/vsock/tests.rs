//! Streams between guest and host: no byte is lost or made up, whoever stalls, and each half ends on its own.

mod flow;
mod rules;

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::packet::operation::{REQUEST, RESPONSE, RST, RW, SHUTDOWN};
use super::{RECEIVE, TRANSMIT, Vsock};
use crate::contract::{Subject, device_contract};
use crate::guest::Guest;

const CID: u32 = 3;

/// A packet as the tests see it: operation, guest port, host port, flags, capacity, forwarded, data.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packet {
    operation: u16,
    guest_port: u32,
    host_port: u32,
    flags: u32,
    capacity: u32,
    forwarded: u32,
    data: Vec<u8>,
}

/// A packet from the guest, with plenty of credit for the host.
fn packet(operation: u16, guest_port: u32, host_port: u32) -> Packet {
    Packet {
        operation,
        guest_port,
        host_port,
        flags: 0,
        capacity: 1 << 20,
        forwarded: 0,
        data: Vec::new(),
    }
}

fn data(guest_port: u32, host_port: u32, data: &[u8]) -> Packet {
    Packet {
        data: data.to_vec(),
        ..packet(RW, guest_port, host_port)
    }
}

impl Packet {
    fn header(&self) -> Vec<u8> {
        [
            &u64::from(CID).to_le_bytes()[..],
            &2_u64.to_le_bytes(),
            &self.guest_port.to_le_bytes(),
            &self.host_port.to_le_bytes(),
            &u32::try_from(self.data.len()).unwrap().to_le_bytes(),
            &1_u16.to_le_bytes(),
            &self.operation.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.capacity.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ]
        .concat()
    }

    /// What the device wrote into a buffer of the guest.
    fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!(
            bytes[..16],
            [&2_u64.to_le_bytes()[..], &u64::from(CID).to_le_bytes()].concat()
        );
        assert_eq!(half(28), 1, "a stream");
        assert_eq!(word(24) as usize, bytes.len() - 44);
        Self {
            host_port: word(16),
            guest_port: word(20),
            operation: half(30),
            flags: word(32),
            capacity: word(36),
            forwarded: word(40),
            data: bytes[44..].to_vec(),
        }
    }
}

/// The launcher's end of a device's channel, with a guest's driver on the other side.
struct Launcher {
    channel: OwnedFd,
    next_port: u32,
}

fn channel() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

impl Launcher {
    /// The next stream the guest opened, and to which port.
    fn accept(&self) -> Option<(u32, UnixStream)> {
        let mut port = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [std::io::IoSliceMut::new(&mut port)];
        let flags = RecvFlags::DONTWAIT;
        let received = recvmsg(&self.channel, &mut slices, &mut ancillary, flags).ok()?;
        assert_eq!(received.bytes, 4);
        let mut streams = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                streams.extend(rights);
            }
        }
        assert_eq!(streams.len(), 1);
        let stream = UnixStream::from(streams.pop().unwrap());
        stream.set_nonblocking(true).unwrap();
        Some((u32::from_le_bytes(port), stream))
    }

    fn send(&self, message: &[u8], streams: &[OwnedFd]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let streams: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        if !streams.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&streams)));
        }
        sendmsg(
            &self.channel,
            &[IoSlice::new(message)],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
    }

    /// Asks for a connection to a port of the guest.
    fn connect(&self, port: u32) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        self.send(&port.to_le_bytes(), &[theirs.into()]);
        ours
    }
}

/// A started guest with buffers to receive into.
fn started() -> (Launcher, Guest) {
    let mut launcher = Launcher::new();
    let mut guest = Guest::new(launcher.device());
    guest.start();
    stock(&mut guest);
    (launcher, guest)
}

/// Offers buffers until the guest can receive sixteen packets.
fn stock(guest: &mut Guest) {
    while guest.outstanding(RECEIVE) < 16 {
        guest.offer(RECEIVE, &[], &[44 + 4096]);
    }
    guest.kick(RECEIVE);
}

fn send(guest: &mut Guest, packet: &Packet) {
    guest.exchange(TRANSMIT, &[&packet.header(), &packet.data], &[]);
}

/// Takes the next packet from the device, if there is one, and offers a buffer in its place.
fn receive(guest: &mut Guest) -> Option<Packet> {
    let answer = guest.take(RECEIVE)?;
    stock(guest);
    Some(Packet::parse(&answer.bytes[..answer.length as usize]))
}

/// The guest connects, and both ends are there.
fn dial(launcher: &Launcher, guest: &mut Guest, guest_port: u32, host_port: u32) -> UnixStream {
    send(guest, &packet(REQUEST, guest_port, host_port));
    let response = receive(guest).unwrap();
    assert_eq!(
        (response.operation, response.guest_port),
        (RESPONSE, guest_port)
    );
    assert_eq!(response.host_port, host_port);
    let (port, stream) = launcher.accept().unwrap();
    assert_eq!(port, host_port);
    stream
}

/// What a stream has now.
fn drain(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn is_at_end(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

impl Subject for Launcher {
    type Device = Vsock;
    const EAGER: usize = TRANSMIT;

    fn new() -> Self {
        let (channel, _) = channel();
        Self {
            channel,
            next_port: 5000,
        }
    }

    fn device(&mut self) -> Vsock {
        let (ours, theirs) = channel();
        self.channel = ours;
        Vsock::new(CID, theirs).unwrap()
    }

    fn exercise(&mut self, guest: &mut Guest) {
        // What a hostile driver may have opened before.
        while self.accept().is_some() {}
        guest.host_ready();
        stock(guest);
        while receive(guest).is_some() {}
        self.next_port += 1;
        let (guest_port, host_port) = (self.next_port, 1024);
        let mut stream = dial(self, guest, guest_port, host_port);
        send(guest, &data(guest_port, host_port, b"ping"));
        assert_eq!(drain(&mut stream), b"ping");
        stream.write_all(b"pong").unwrap();
        guest.host_ready();
        assert_eq!(receive(guest).unwrap().data, b"pong");
        let end = Packet {
            flags: 3,
            ..packet(SHUTDOWN, guest_port, host_port)
        };
        send(guest, &end);
        assert_eq!(receive(guest).unwrap().operation, RST);
        assert!(is_at_end(&mut stream));
        assert_eq!(receive(guest), None);
    }
}

device_contract!(Launcher);

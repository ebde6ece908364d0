//! What happens at the other ends of a town's network, without the guest. Refuses to know what the guest says.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::*;

/// Most connections of the host's that are kept.
const MOST_STREAMS: usize = 6;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_millis(10);

impl Town {
    /// What the host's ends of connections do.
    pub(super) fn streams(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let which = usize::from(choice >> 4) % self.streams.len().max(1);
        let new = match choice % 8 {
            _ if self.streams.len() >= MOST_STREAMS => None,
            0 => self.server.accept().ok().map(|(stream, _)| stream),
            // Those that nobody accepts are many at last, and further ones would wait.
            1 => TcpStream::connect_timeout(&self.published[0], PATIENCE).ok(),
            _ => None,
        };
        if let Some(new) = new {
            new.set_nonblocking(true).unwrap();
            self.streams.push(new);
        }
        let Some(stream) = self.streams.get_mut(which) else {
            return;
        };
        match choice % 8 {
            2 | 3 => drop(stream.write(&vec![b'y'; usize::from(input.byte()) * 256])),
            4 => drop(stream.read(&mut [0; 1 << 16])),
            5 => drop(stream.shutdown(Shutdown::Write)),
            6 => drop(stream.shutdown(Shutdown::Both)),
            // With what it was sent and did not read: a reset.
            7 => drop(self.streams.remove(which)),
            _ => {}
        }
    }

    /// What others send to the guest without a connection.
    pub(super) fn datagrams(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        match choice % 7 {
            0 => drop(self.peer.send_to(input.bytes(), self.published[1])),
            1 => {
                let mut buffer = [0; 1 << 16];
                if let Ok((_, from)) = self.answers.recv_from(&mut buffer) {
                    let _ = self.answers.send_to(input.bytes(), from);
                }
            }
            2 => {
                let mut answer = vec![0; 2048];
                let length = self.names.recv(&mut answer).unwrap_or(0);
                answer.truncate(length);
                records(&mut answer, input);
                let _ = self.names.send(&answer);
            }
            3 => {
                let mut echo = vec![0; 8192];
                let length = self.pinged.recv(&mut echo).unwrap_or(0);
                echo.truncate(length.min(input.byte().into()));
                let _ = self.pinged.send(&echo);
            }
            4 => {
                let own = self.directory.join(socket_name(GUEST.0));
                let first = match input.byte() {
                    choice @ 0..8 => {
                        let kind = [wire::TCP, wire::UDP, wire::ICMP, wire::ICMPV6];
                        kind[usize::from(choice & 3)] | choice >> 2 << 7
                    }
                    other => other,
                };
                let message = [&[first], input.bytes()].concat();
                let _ = self.neighbour.send_to(&message, own);
            }
            5 => while self.neighbour.recv(&mut [0; 1 << 16]).is_ok() {},
            _ => {
                let servers: Vec<_> = (9..9 + (choice >> 4 & 3)).map(resolver).collect();
                let list = encode_servers(&servers);
                let _ = self.host.recv(&mut [0; 8]);
                let _ = self
                    .host
                    .send(&list[..list.len() - usize::from(choice >> 6).min(list.len())]);
            }
        }
    }
}

/// Makes an answer of a query: flags, a count, and records that may be whole.
fn records(answer: &mut Vec<u8>, input: &mut Input<'_>) {
    let count = input.byte() % 8;
    if let Some(flags) = answer.get_mut(2..8) {
        flags.copy_from_slice(&[0x81 ^ input.byte(), 0x80, 0, 1, 0, count]);
    }
    for _ in 0..count {
        match input.byte() {
            0 => answer.extend(*b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01"),
            1 => {
                answer.extend(b"\x01a\0\0\x1c\0\x01\0\0\0\x3c\0\x10");
                answer.extend(NOWHERE.octets());
            }
            2 => answer.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x03\x01c\0"),
            _ => answer.extend(input.bytes()),
        }
    }
}

/// A flow of datagrams whose other end is in this process, and that end.
pub(super) fn flow(
    stack: &mut Stack,
    protocol: u8,
    to: (Ipv4Addr, u16),
    content: Content,
) -> UnixDatagram {
    let (ours, theirs) = pair();
    let socket = OwnedFd::from(theirs);
    stack.watch(&socket, datagram::EVENTS).unwrap();
    let key = Key {
        protocol,
        guest: ASKS,
        remote: (to.0.into(), to.1),
    };
    let way = datagram::Way::Own(socket);
    let flow = Datagrams {
        way,
        content,
        idle: 0,
    };
    stack.flows_insert(key, flow).unwrap();
    ours
}

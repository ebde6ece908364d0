//! Datagrams in the stack: UDP and echoes, and the answers of name servers.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};
use virtio::Reader;

use super::{Flow, SLOW, Stack};
use crate::datagram::{self, Content, Datagrams, Way};
use crate::flows::Key;
use crate::link::{self, Unreachable};
use crate::{dns, wire};

impl Stack {
    pub(super) fn udp(&mut self, remote: IpAddr, mut frame: Reader<'_>) -> Option<()> {
        let (guest, port) = wire::udp(&mut frame)?;
        let key = Key {
            protocol: wire::UDP,
            guest,
            remote: (remote, port),
        };
        let length = frame.left();
        if port == dns::PORT && self.is_gateway(remote) {
            let query = datagram::read(&mut frame)?;
            return self.ask(&key, &query);
        }
        let number = match self.flows.find(&key) {
            Some(number) => number,
            None => match self.open(&key, Some(port)) {
                Ok(number) => number,
                Err(why) => return self.say_lost(&key, length, why),
            },
        };
        let (_, Flow::Datagrams(flow)) = self.flows.get(number)? else {
            return None;
        };
        flow.idle = 0;
        match &flow.way {
            Way::Own(socket) => {
                // One that cannot be sent is lost; why, may be what became of the one before.
                let sent = frame.send(socket.as_fd(), frame.left());
                if let Some(error) = sent.err().as_ref().and_then(Errno::from_io_error)
                    && let Some(why) = datagram::unreachable(error)
                {
                    return self.say_lost(&key, length, why);
                }
            }
            Way::Port(port, peer) => {
                let (port, peer) = (*port, *peer);
                let bytes = datagram::read(&mut frame)?;
                if let (_, Flow::Port(port)) = self.flows.get(port)? {
                    datagram::put(&port.socket, &bytes, Some(peer));
                }
            }
        }
        Some(())
    }

    /// Tells the guest why its datagram is lost.
    pub(super) fn say_lost(&mut self, key: &Key, length: usize, why: Unreachable) -> Option<()> {
        let mut head = Vec::new();
        wire::write_udp(&mut head, key.guest, key.remote.1, length);
        self.say_unreachable(key.remote.0, wire::UDP, &head, why);
        None
    }

    /// Makes a flow of datagrams, if the guest may send there and the host can.
    fn open(&mut self, key: &Key, port: Option<u16>) -> Result<usize, Unreachable> {
        let target = self.permit(key.protocol, key.remote.0, port);
        let target = target.ok_or(Unreachable::Port)?;
        if self.flows.is_full() {
            return Err(Unreachable::Port);
        }
        let why = |error| Unreachable::by(error).unwrap_or(Unreachable::Port);
        let socket = datagram::open(target, key.protocol).map_err(why)?;
        self.watch(&socket, datagram::EVENTS).map_err(why)?;
        let content = match port {
            None => Content::Echo,
            Some(_) => Content::Udp,
        };
        let way = Way::Own(socket);
        let number = self.flows_insert(
            *key,
            Datagrams {
                way,
                content,
                idle: 0,
            },
        );
        number.ok_or(Unreachable::Port)
    }

    pub(super) fn flows_insert(&mut self, key: Key, flow: Datagrams) -> Option<usize> {
        let number = self.flows.insert(Some(key), Flow::Datagrams(flow))?;
        self.arm(SLOW);
        self.count();
        Some(number)
    }

    pub(super) fn echo(&mut self, remote: IpAddr, mut frame: Reader<'_>) -> Option<()> {
        let message = datagram::read(&mut frame)?;
        if remote.is_ipv6() && link::is_of_link(&message) {
            return self.solicited(self.guest_mac, self.guest(remote), &message);
        }
        let identifier = link::echo(remote.is_ipv6(), &message)?;
        if self.is_gateway(remote) {
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
            None => match self.open(&key, None) {
                Ok(number) => number,
                // Of what it may not ping the guest hears nothing.
                Err(Unreachable::Port) => return None,
                Err(why) => {
                    let head = message.get(..8)?;
                    self.say_unreachable(remote, key.protocol, head, why);
                    return None;
                }
            },
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

    pub(super) fn say_datagram(&mut self, key: &Key, data: &[u8]) -> Option<()> {
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
    pub(super) fn collect(&mut self, number: usize) -> Option<()> {
        self.buffer.resize(1 << 16, 0);
        let (key, flow) = self.flows.get(number)?;
        match flow {
            Flow::Tcp(_) => None,
            Flow::Neighbours => self.hear_neighbour(),
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
                    Err(_) if matches!(flow.content, Content::Dns(_)) => {
                        self.refused(number, &key);
                        return Some(());
                    }
                    Err(error) => {
                        if key.protocol == wire::UDP {
                            let why = datagram::unreachable(error).unwrap_or(Unreachable::Port);
                            self.say_lost(&key, 0, why);
                        }
                        return Some(());
                    }
                };
                flow.idle = 0;
                let mut data = std::mem::take(&mut self.buffer);
                let bytes = data.get_mut(..length).unwrap_or_default();
                if let Content::Dns(turn) = &mut flow.content {
                    turn.answered();
                    let server = turn.server;
                    self.answered(number, server, bytes);
                    self.say_datagram(&key, bytes);
                } else if matches!(flow.content, Content::Echo) {
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
    pub(super) fn answers(&mut self, port: usize, guest: u16, peer: SocketAddr) -> Option<Key> {
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
}

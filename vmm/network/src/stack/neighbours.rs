//! Packets between guests of one network: from one's frame to the other's, header by header. What passes is a payload; who sent it,
//! the receiving stack says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use virtio::Reader;

use super::Stack;
use crate::link::{self, Unreachable};
use crate::neighbours::OVER_IPV6;
use crate::{GATEWAY, address_in, dns, neighbours, wire};

/// The longest payload of a packet of 65,535 bytes.
fn longest(v6: bool) -> usize {
    if v6 { 65_495 } else { 65_515 }
}

/// Nanoseconds for which a packet is held for a neighbour, and between two attempts. Who has not read by then reads nothing: what is
/// sent there is lost from then on, until there is room again, lest it keep the guest from all others.
const HELD: u64 = 10_000_000;
const RETRY: u64 = 100_000;

/// A packet that waits for a neighbour.
#[derive(Debug)]
pub(super) struct Held {
    to: Ipv4Addr,
    message: Vec<u8>,
    until: u64,
}

/// As much of an undelivered packet's payload as its sender is shown.
const SHOWN: usize = 8;

/// Where a payload's checksum is, and its least length.
fn checksum(v6: bool, protocol: u8) -> Option<(usize, usize)> {
    match (protocol, v6) {
        (wire::TCP, _) => Some((16, wire::TCP_LENGTH)),
        (wire::UDP, _) => Some((6, wire::UDP_LENGTH)),
        (wire::ICMP, false) | (wire::ICMPV6, true) => Some((2, 8)),
        _ => None,
    }
}

impl Stack {
    /// The IPv6 address of whoever has this one.
    pub(super) fn address6_of(&self, address: Ipv4Addr) -> Ipv6Addr {
        let [_, _, _, subnet, ..] = self.settings.address6.segments();
        address_in(subnet, address)
    }

    /// The IPv4 address of whoever has this one, if anybody can.
    fn address4_of(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let [.., last] = address.segments();
        // It is written the same.
        let last = format!("{last:x}").parse().ok()?;
        let [a, b, c, _] = GATEWAY.0.octets();
        let found = Ipv4Addr::new(a, b, c, last);
        (self.address6_of(found) == address).then_some(found)
    }

    /// The address as a neighbour's, if there can be neighbours.
    pub(super) fn neighbour(&self, address: IpAddr) -> Option<Ipv4Addr> {
        self.neighbours.as_ref()?;
        let address = match address {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => self.address4_of(address)?,
        };
        neighbours::is_host(address).then_some(address)
    }

    /// Whether the guest finds somebody of this address on its link; all are found where the gateway is.
    pub(super) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        let neighbours = self.neighbours.as_ref();
        address == GATEWAY.0
            || address != self.settings.address
                && neighbours.is_some_and(|neighbours| neighbours.has(address))
    }

    /// The same of IPv6.
    pub(super) fn is_on_link6(&self, address: Ipv6Addr) -> bool {
        let address = self.address4_of(address);
        address.is_some_and(|address| self.is_on_link(address))
    }

    /// Sends a packet's payload to a neighbour.
    pub(super) fn send_neighbour(
        &mut self,
        to: Ipv4Addr,
        v6: bool,
        protocol: u8,
        mut frame: Reader<'_>,
    ) -> Option<()> {
        let (_, least) = checksum(v6, protocol)?;
        let length = frame.left();
        if to == self.settings.address || !(least..=longest(v6)).contains(&length) {
            return None;
        }
        let remote: IpAddr = match v6 {
            true => self.address6_of(to).into(),
            false => to.into(),
        };
        let over = if v6 { OVER_IPV6 } else { 0 };
        let mut message = vec![protocol | over; length.saturating_add(1)];
        frame.read(message.get_mut(1..)?);
        if protocol == wire::ICMPV6 && link::is_of_link(message.get(1..)?) {
            return self.solicited(self.guest_mac, self.guest(remote), message.get(1..)?);
        }
        match self.neighbours.as_ref()?.send(to, &message) {
            Ok(true) => {
                self.deaf.remove(&to);
            }
            Ok(false) => {
                if self.held.is_none() && !self.deaf.contains(&to) {
                    let until = (self.now)().saturating_add(HELD);
                    self.held = Some(Held { to, message, until });
                }
            }
            Err(_) => {
                let head = message.get(1..)?.get(..SHOWN)?;
                self.say_unreachable(remote, protocol, head, Unreachable::Host);
            }
        }
        Some(())
    }

    /// Whether the guest may send: not while a packet is held for a neighbour that has no room for it, which is not for long.
    pub(super) fn deliver_held(&mut self) -> bool {
        let (Some(held), Some(neighbours)) = (&self.held, &self.neighbours) else {
            return true;
        };
        let now = (self.now)();
        let full = matches!(neighbours.send(held.to, &held.message), Ok(false));
        if full && now < held.until {
            return self.await_line(Some(now.saturating_add(RETRY)));
        }
        if full {
            self.deaf.insert(held.to);
        }
        self.held = None;
        true
    }

    /// Takes the next message of a neighbour for the guest. `None`: there is none.
    pub(super) fn hear_neighbour(&mut self) -> Option<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self
            .neighbours
            .as_ref()
            .and_then(|neighbours| neighbours.receive(&mut buffer).ok());
        if let Some((length, Some(source))) = received
            && let Some([first, payload @ ..]) = buffer.get_mut(..length)
        {
            let v6 = *first & OVER_IPV6 != 0;
            let _ = self.say_payload(source, v6, *first & !OVER_IPV6, payload);
        }
        self.buffer = buffer;
        received.map(|_| ())
    }

    fn say_payload(
        &mut self,
        source: Ipv4Addr,
        v6: bool,
        protocol: u8,
        payload: &mut [u8],
    ) -> Option<()> {
        let (place, least) = checksum(v6, protocol)?;
        let fits = (least..=longest(v6)).contains(&payload.len());
        // Whose link it is, is for the gateway to say.
        let of_link = protocol == wire::ICMPV6 && link::is_of_link(payload);
        if source == self.settings.address || !fits || of_link {
            return None;
        }
        let ends = self.ends(match v6 {
            true => self.address6_of(source).into(),
            false => source.into(),
        });
        let mut out = Vec::with_capacity(payload.len().saturating_add(64));
        ends.write(&mut out, protocol, payload.len());
        let start = u16::try_from(out.len()).ok()?;
        // It may have left its checksum to others, and none was lost on the way; that of ICMP nobody leaves.
        let left = matches!(protocol, wire::TCP | wire::UDP)
            .then_some((start, u16::try_from(place).ok()?));
        if left.is_some() {
            let pseudo = ends.pseudo_header(protocol, payload.len());
            payload
                .get_mut(place..)?
                .first_chunk_mut::<2>()?
                .copy_from_slice(&pseudo.to_be_bytes());
        }
        out.extend_from_slice(payload);
        self.say(out, left);
        Some(())
    }

    /// The answer to a question for a neighbour's name.
    pub(super) fn name_of_neighbour(&self, query: &[u8]) -> Option<Vec<u8>> {
        let neighbours = self.neighbours.as_ref()?;
        let question = dns::question(query)?;
        match neighbours.named(&question.name) {
            found if found.is_empty() => None,
            found => {
                let v6 = found.iter().map(|one| self.address6_of(*one).into());
                let all: Vec<IpAddr> = found.iter().map(|one| (*one).into()).chain(v6).collect();
                dns::answer(query, &question, &all)
            }
        }
    }
}

//! Packets between guests of one network: from one's frame to the other's, header by header. What passes is a payload; who sent it,
//! the receiving stack says.

use std::net::{IpAddr, Ipv4Addr};

use virtio::Reader;

use super::Stack;
use crate::link::Unreachable;
use crate::{GATEWAY, dns, neighbours, wire};

/// The longest payload of an IPv4 packet.
const LONGEST: usize = 65_515;
/// As much of an undelivered packet's payload as its sender is shown.
const SHOWN: usize = 8;

/// Where a payload's checksum is, and its least length.
fn checksum(protocol: u8) -> Option<(usize, usize)> {
    match protocol {
        wire::TCP => Some((16, wire::TCP_LENGTH)),
        wire::UDP => Some((6, wire::UDP_LENGTH)),
        wire::ICMP => Some((2, 8)),
        _ => None,
    }
}

impl Stack {
    /// The address as a neighbour's, if there can be neighbours.
    pub(super) fn neighbour(&self, address: IpAddr) -> Option<Ipv4Addr> {
        match address {
            IpAddr::V4(address) if self.neighbours.is_some() => {
                neighbours::is_host(address).then_some(address)
            }
            _ => None,
        }
    }

    /// Whether the guest finds somebody of this address on its link; all are found where the gateway is.
    pub(super) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        let neighbours = self.neighbours.as_ref();
        address == GATEWAY.0
            || address != self.settings.address
                && neighbours.is_some_and(|neighbours| neighbours.has(address))
    }

    /// Sends a packet's payload to a neighbour.
    pub(super) fn send_neighbour(
        &mut self,
        to: Ipv4Addr,
        protocol: u8,
        mut frame: Reader<'_>,
    ) -> Option<()> {
        let (_, least) = checksum(protocol)?;
        let length = frame.left();
        if to == self.settings.address || !(least..=LONGEST).contains(&length) {
            return None;
        }
        let mut message = vec![protocol; length.saturating_add(1)];
        frame.read(message.get_mut(1..)?);
        if self.neighbours.as_ref()?.send(to, &message).is_err() {
            let head = message.get(1..)?.get(..SHOWN)?;
            self.say_unreachable(to.into(), protocol, head, Unreachable::Host);
        }
        Some(())
    }

    /// Takes the next message of a neighbour for the guest. `None`: there is none.
    pub(super) fn hear_neighbour(&mut self) -> Option<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self
            .neighbours
            .as_ref()
            .and_then(|neighbours| neighbours.receive(&mut buffer).ok());
        if let Some((length, Some(source))) = received
            && let Some([protocol, payload @ ..]) = buffer.get_mut(..length)
        {
            let _ = self.say_payload(source, *protocol, payload);
        }
        self.buffer = buffer;
        received.map(|_| ())
    }

    fn say_payload(&mut self, source: Ipv4Addr, protocol: u8, payload: &mut [u8]) -> Option<()> {
        let (place, least) = checksum(protocol)?;
        if source == self.settings.address || !(least..=LONGEST).contains(&payload.len()) {
            return None;
        }
        let ends = self.ends(source.into());
        let mut out = Vec::with_capacity(payload.len().saturating_add(64));
        ends.write(&mut out, protocol, payload.len());
        let start = u16::try_from(out.len()).ok()?;
        // It may have left its checksum to others, and none was lost on the way; ICMP's nobody leaves.
        let left = (protocol != wire::ICMP).then_some((start, u16::try_from(place).ok()?));
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
            found => dns::answer(query, &question, &found),
        }
    }
}

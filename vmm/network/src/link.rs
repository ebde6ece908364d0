//! What the gateway says for itself: where it and the guest's neighbours are on the link (ARP, NDP), that it is there (echo), and that
//! something cannot be reached. Each answer is a whole frame. Refuses to know flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use virtio::Reader;

use crate::wire::{self, ARP, Ends, ICMP, ICMPV6, Mac};

/// The gateway's hardware address.
pub(crate) const GATEWAY_MAC: Mac = [0x02, 0x68, 0x75, 0x6c, 0x6c, 0x02];

/// Most bytes of an echo that the gateway gives back.
const LONGEST_ECHO: usize = 2048;

/// Message types of ICMP and ICMPv6.
const ECHO: (u8, u8) = (8, 128);
const ECHO_REPLY: (u8, u8) = (0, 129);
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Those of neighbour discovery.
const NDP: std::ops::RangeInclusive<u8> = 133..=137;

/// The answer to an ARP packet that asks for an address that `is_here`: all of them are where the gateway is.
pub(crate) fn arp(frame: &mut Reader<'_>, is_here: impl Fn(Ipv4Addr) -> bool) -> Option<Vec<u8>> {
    let head: [u8; 8] = frame.read_array().ok()?;
    let (sender, sender_address): (Mac, [u8; 4]) =
        (frame.read_array().ok()?, frame.read_array().ok()?);
    let (_, target): (Mac, [u8; 4]) = (frame.read_array().ok()?, frame.read_array().ok()?);
    // Ethernet, IPv4, lengths 6 and 4, a request.
    if head != [0, 1, 8, 0, 6, 4, 0, 1] || !is_here(target.into()) {
        return None;
    }
    let mut out = Vec::with_capacity(42);
    out.extend(sender);
    out.extend(GATEWAY_MAC);
    out.extend(ARP.to_be_bytes());
    out.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    out.extend(GATEWAY_MAC);
    out.extend(target);
    out.extend(sender);
    out.extend(sender_address);
    Some(out)
}

/// Whether a message of ICMPv6 is between those on one link alone.
pub(crate) fn is_of_link(message: &[u8]) -> bool {
    message.first().is_some_and(|kind| NDP.contains(kind))
}

/// The answer to a neighbour solicitation, from whoever it is, that asks for an address that `is_here`.
pub(crate) fn neighbour(
    mac: Mac,
    source: IpAddr,
    message: &[u8],
    is_here: impl Fn(Ipv6Addr) -> bool,
) -> Option<Vec<u8>> {
    let target: [u8; 16] = *message.get(8..)?.first_chunk()?;
    let asked = message.starts_with(&[SOLICITATION, 0]) && is_here(target.into());
    if !asked || source.is_unspecified() {
        return None;
    }
    // Router, solicited, override; then the target's link-layer address.
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, 0xe0, 0, 0, 0];
    message.extend(target);
    message.extend([2, 1]);
    message.extend(GATEWAY_MAC);
    let ends = Ends {
        guest_mac: mac,
        gateway_mac: GATEWAY_MAC,
        source: Ipv6Addr::from(target).into(),
        destination: source,
    };
    // Neighbours believe nothing that has passed a router: 255 hops are left.
    let mut out = message_frame(&ends, message);
    if let Some(hops) = out.get_mut(wire::ETHERNET_LENGTH.saturating_add(7)) {
        *hops = 255;
    }
    Some(out)
}

/// The identifier of an echo request.
pub(crate) fn echo(v6: bool, message: &[u8]) -> Option<u16> {
    let wanted = if v6 { ECHO.1 } else { ECHO.0 };
    match message.get(..8)? {
        [kind, 0, _, _, high, low, _, _] if *kind == wanted => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    }
}

/// The gateway's own answer to an echo request.
pub(crate) fn echo_reply(ends: &Ends, mut message: Vec<u8>) -> Option<Vec<u8>> {
    if message.len() > LONGEST_ECHO {
        return None;
    }
    let first = message.first_mut()?;
    *first = if ends.source.is_ipv6() {
        ECHO_REPLY.1
    } else {
        ECHO_REPLY.0
    };
    Some(message_frame(ends, message))
}

/// A frame with a message of ICMP, whose checksum is made here.
pub(crate) fn message_frame(ends: &Ends, mut message: Vec<u8>) -> Vec<u8> {
    let (protocol, summed) = match ends.source {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMPV6, ends.pseudo_header(ICMPV6, message.len())),
    };
    wire::finish(&mut message, 0, 2, summed);
    let mut out = Vec::with_capacity(message.len().saturating_add(64));
    ends.write(&mut out, protocol, message.len());
    out.extend(message);
    out
}

/// Why something cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// No way leads there.
    Network,
    /// Nobody is there.
    Host,
    /// Nobody listens there.
    Port,
}

impl Unreachable {
    /// Why, by what the host says when it is to go there; `None` where it means something else.
    pub(crate) fn by(error: Errno) -> Option<Self> {
        match error {
            Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => {
                Some(Self::Network)
            }
            Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::ACCESS | Errno::PERM => Some(Self::Host),
            _ => None,
        }
    }
}

/// Tells the guest that a packet of `protocol`, of `ends` as an answer to it would have them, could not be delivered; `head` is
/// what begins its payload.
pub(crate) fn unreachable(ends: &Ends, protocol: u8, head: &[u8], why: Unreachable) -> Vec<u8> {
    let (kind, code) = match (ends.source, why) {
        (IpAddr::V4(_), Unreachable::Network) => (3, 0),
        (IpAddr::V4(_), Unreachable::Host) => (3, 1),
        (IpAddr::V4(_), Unreachable::Port) => (3, 3),
        (IpAddr::V6(_), Unreachable::Network) => (1, 0),
        (IpAddr::V6(_), Unreachable::Host) => (1, 3),
        (IpAddr::V6(_), Unreachable::Port) => (1, 4),
    };
    let original = Ends {
        source: ends.destination,
        destination: ends.source,
        ..*ends
    };
    let mut packet = Vec::with_capacity(96);
    original.write(&mut packet, protocol, head.len());
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(packet.get(wire::ETHERNET_LENGTH..).unwrap_or_default());
    message.extend(head);
    message_frame(ends, message)
}

//! Headers of Ethernet, IPv4, IPv6, TCP, UDP and ICMP, to and from bytes. Refuses to know what is done about them.
//!
//! What a guest sends is read once, from scattered memory, into values; whatever is not whole is nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use virtio::Reader;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) const ETHERNET_LENGTH: usize = 14;
pub(crate) const TCP_LENGTH: usize = 20;
pub(crate) const UDP_LENGTH: usize = 8;

/// TCP's flags.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
}

/// Length of the IP header of a packet to `address`.
pub(crate) fn ip_length(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    }
}

/// Reads an Ethernet header: source and kind.
pub(crate) fn ethernet(frame: &mut Reader<'_>) -> Option<(Mac, u16)> {
    let [_, _, _, _, _, _, source @ .., high, low] = frame.read_array::<ETHERNET_LENGTH>().ok()?;
    Some((source, u16::from_be_bytes([high, low])))
}

/// What an IP header says; its payload is what is left of the frame then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
}

/// Reads an IPv4 header. A fragment is nothing: a guest with this link's MTU has no reason to make any.
pub(crate) fn ipv4(frame: &mut Reader<'_>) -> Option<Ip> {
    let head: [u8; 20] = frame.read_array().ok()?;
    let [
        version,
        _,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = head;
    let length = usize::from(version & 15).saturating_mul(4);
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    let mut options = [0; 40];
    let options = options.get_mut(..length.checked_sub(20)?)?;
    if version >> 4 != 4 || fragment || frame.read(options) != options.len() {
        return None;
    }
    let payload = usize::from(u16::from_be_bytes([l0, l1])).checked_sub(length)?;
    limit(frame, payload)?;
    Some(Ip {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol,
    })
}

/// Reads an IPv6 header. Extension headers are a protocol that nobody here speaks.
pub(crate) fn ipv6(frame: &mut Reader<'_>) -> Option<Ip> {
    let [version, _, _, _, l0, l1, protocol, _] = frame.read_array().ok()?;
    let (source, destination): ([u8; 16], [u8; 16]) =
        (frame.read_array().ok()?, frame.read_array().ok()?);
    if version >> 4 != 6 {
        return None;
    }
    limit(frame, usize::from(u16::from_be_bytes([l0, l1])))?;
    Some(Ip {
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        protocol,
    })
}

/// Cuts off what Ethernet padded.
fn limit(frame: &mut Reader<'_>, payload: usize) -> Option<()> {
    if frame.left() < payload {
        return None;
    }
    frame.limit(payload);
    Some(())
}

/// A TCP header; its data is what is left of the frame then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// Options of a SYN.
    pub(crate) most: Option<u16>,
    pub(crate) scale: Option<u8>,
}

impl Segment {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Reads a TCP header. Options that are not a SYN's, or make no sense, do not count.
pub(crate) fn tcp(frame: &mut Reader<'_>) -> Option<Segment> {
    let head: [u8; TCP_LENGTH] = frame.read_array().ok()?;
    let [
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        a0,
        a1,
        a2,
        a3,
        offset,
        flags,
        w0,
        w1,
        _,
        _,
        _,
        _,
    ] = head;
    let length = usize::from(offset >> 4).saturating_mul(4);
    let mut options = [0; 40];
    let options = options.get_mut(..length.checked_sub(TCP_LENGTH)?)?;
    if frame.read(options) != options.len() {
        return None;
    }
    let mut segment = Segment {
        source: u16::from_be_bytes([s0, s1]),
        destination: u16::from_be_bytes([d0, d1]),
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        acknowledged: u32::from_be_bytes([a0, a1, a2, a3]),
        flags,
        window: u16::from_be_bytes([w0, w1]),
        most: None,
        scale: None,
    };
    let mut rest: &[u8] = options;
    while segment.has(flag::SYN)
        && let Some((&kind, after)) = rest.split_first()
    {
        rest = match (kind, after) {
            (0, _) => break,
            (1, after) => after,
            (_, [length, ..]) => {
                let length = usize::from(*length).checked_sub(1)?.max(1);
                let (option, after) = after.split_at_checked(length)?;
                match (kind, option) {
                    (2, [4, high, low]) => segment.most = Some(u16::from_be_bytes([*high, *low])),
                    (3, [3, scale]) => segment.scale = Some((*scale).min(14)),
                    _ => {}
                }
                after
            }
            (_, []) => break,
        };
    }
    Some(segment)
}

/// Reads a UDP header: source and destination port.
pub(crate) fn udp(frame: &mut Reader<'_>) -> Option<(u16, u16)> {
    let [s0, s1, d0, d1, l0, l1, _, _] = frame.read_array::<UDP_LENGTH>().ok()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    limit(frame, length.checked_sub(UDP_LENGTH)?)?;
    Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

/// Both ends of a packet for the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) guest_mac: Mac,
    pub(crate) gateway_mac: Mac,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Ends {
    /// Appends Ethernet and IP header of a packet with so much payload.
    pub(crate) fn write(&self, out: &mut Vec<u8>, protocol: u8, payload: usize) {
        out.extend(self.guest_mac);
        out.extend(self.gateway_mac);
        let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                out.extend(IPV4.to_be_bytes());
                let start = out.len();
                out.extend([0x45, 0]);
                out.extend(short(payload.saturating_add(20)));
                // Not to be fragmented; 64 hops.
                out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                out.extend(source.octets());
                out.extend(destination.octets());
                let sum = checksum(&[out.get(start..).unwrap_or_default()]);
                let place = out.get_mut(start.saturating_add(10)..);
                if let Some([high, low, ..]) = place {
                    [*high, *low] = sum.to_be_bytes();
                }
            }
            (source, destination) => {
                out.extend(IPV6.to_be_bytes());
                out.extend([0x60, 0, 0, 0]);
                out.extend(short(payload));
                out.extend([protocol, 64]);
                out.extend(octets6(source));
                out.extend(octets6(destination));
            }
        }
    }

    /// The sum over what TCP, UDP and ICMPv6 check beside their own bytes.
    pub(crate) fn pseudo_header(&self, protocol: u8, payload: usize) -> u16 {
        let length = u32::try_from(payload).unwrap_or(0).to_be_bytes();
        let mut sum = Sum::default();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                sum.add(&source.octets());
                sum.add(&destination.octets());
            }
            (source, destination) => {
                sum.add(&octets6(source));
                sum.add(&octets6(destination));
            }
        }
        sum.add(&length);
        sum.add(&[0, protocol]);
        sum.folded()
    }
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// A sum in ones' complement of 16-bit words (RFC 1071). All pieces but the last are of even length.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<2>();
        for pair in pairs {
            self.0 = self.0.wrapping_add(u16::from_be_bytes(*pair).into());
        }
        if let [last] = rest {
            self.0 = self.0.wrapping_add(u64::from(*last) << 8);
        }
    }

    pub(crate) fn folded(self) -> u16 {
        let mut sum = self.0;
        while let carry @ 1.. = sum >> 16 {
            sum = (sum & 0xffff).wrapping_add(carry);
        }
        u16::try_from(sum).unwrap_or(0)
    }
}

/// The checksum over these pieces.
pub(crate) fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = Sum::default();
    for piece in pieces {
        sum.add(piece);
    }
    !sum.folded()
}

/// Appends a TCP header; the checksum covers the pseudo header alone, as an offload wants it.
pub(crate) fn write_tcp(out: &mut Vec<u8>, segment: &Segment, pseudo: u16) {
    let mut options = Vec::new();
    if let Some(most) = segment.most {
        options.extend([2, 4]);
        options.extend(most.to_be_bytes());
    }
    if let Some(scale) = segment.scale {
        options.extend([1, 3, 3, scale]);
    }
    out.extend(segment.source.to_be_bytes());
    out.extend(segment.destination.to_be_bytes());
    out.extend(segment.sequence.to_be_bytes());
    out.extend(segment.acknowledged.to_be_bytes());
    let words = u8::try_from(options.len() / 4).unwrap_or(0).wrapping_add(5);
    out.extend([words << 4, segment.flags]);
    out.extend(segment.window.to_be_bytes());
    out.extend(pseudo.to_be_bytes());
    out.extend([0, 0]);
    out.extend(options);
}

/// How many bytes of options [`write_tcp`] writes.
pub(crate) fn options_length(segment: &Segment) -> usize {
    match (segment.most, segment.scale) {
        (None, None) => 0,
        (Some(_), Some(_)) => 8,
        _ => 4,
    }
}

/// Appends a UDP header for so much data.
pub(crate) fn write_udp(out: &mut Vec<u8>, source: u16, destination: u16, data: usize) {
    let length = u16::try_from(data.saturating_add(UDP_LENGTH)).unwrap_or(u16::MAX);
    for field in [source, destination, length, 0] {
        out.extend(field.to_be_bytes());
    }
}

/// Writes a checksum at `place` of `out`, over everything from `start` on and what is summed already.
pub(crate) fn finish(out: &mut [u8], start: usize, place: usize, summed: u16) {
    if let Some([high, low, ..]) = out.get_mut(start.saturating_add(place)..) {
        [*high, *low] = [0, 0];
    }
    let sum = checksum(&[&summed.to_be_bytes(), out.get(start..).unwrap_or_default()]);
    if let Some([high, low, ..]) = out.get_mut(start.saturating_add(place)..) {
        [*high, *low] = sum.to_be_bytes();
    }
}

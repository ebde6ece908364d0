//! A network for one guest, made of ordinary sockets: no privilege, no bridge, no helper. Frames come in on one side, and the
//! host's kernel speaks to the world on the other. Or, for who has the privilege, a tap device, where frames leave as they come
//! ([`Tap`]). Knows no virtual machine, no path and no command line.
//!
//! The guest is hostile. What it sends is looked at once; flows, buffers and queued answers are bounded, whatever it claims.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(
    test,
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::panic,
        reason = "a failing test may panic"
    )
)]

mod datagram;
mod dns;
mod egress;
mod flows;
mod journal;
mod link;
mod neighbours;
mod pace;
mod servers;
mod stack;
mod sys;
mod tap;
mod tcp;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

pub use egress::{Rule, RuleError};
pub use journal::{Counts, Files};
pub use neighbours::{HOSTS, Neighbours, link_name, socket_name};
pub use pace::SLOWEST;
pub use servers::encode_servers;
pub use stack::Stack;
#[cfg(any(test, feature = "fuzzing"))]
pub use stack::fuzz;
pub use tap::Tap;

/// The guest's networks: a /24, and a /64 whose first letters are hull's.
pub const PREFIX: (u8, u8) = (24, 64);
/// The other end of the guest's link: its router and name server.
pub const GATEWAY: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 0, 2, 2),
    Ipv6Addr::new(0xfd68, 0x756c, 0x6c, 0, 0, 0, 0, 2),
);
/// The guest, unless other addresses are chosen.
pub const GUEST: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 0, 2, 15),
    Ipv6Addr::new(0xfd68, 0x756c, 0x6c, 0, 0, 0, 0, 0x15),
);
/// The hardware address of a guest that is nobody's in particular, as a template's.
pub const MAC: [u8; 6] = [0x02, 0x68, 0x75, 0x6c, 0x6c, 0x15];
/// Bytes of the largest packet. There is no wire that would want smaller ones.
pub const MTU: u16 = 65_520;
/// Descriptors that a stack takes at most.
pub const MOST_DESCRIPTORS: u64 = 20_000;
/// Bytes of the longest file that a stack writes.
pub const LONGEST_FILE: u64 = 1 << 20;
/// Most ports that can be published.
pub const MOST_PORTS: usize = 200;

/// What is to be settled before a stack is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// The guest's address, one of [`GATEWAY`]'s network.
    pub address: Ipv4Addr,
    /// Its IPv6 address, which [`address_in`] gives; so is its gateway's.
    #[serde(default = "address6")]
    pub address6: Ipv6Addr,
    /// The gateway's address is the host's own.
    pub host: bool,
    /// Where the guest may go; `None` is everywhere.
    pub egress: Option<Vec<Rule>>,
    /// The name servers behind the gateway, in the order in which they are asked.
    pub resolvers: Vec<IpAddr>,
    /// It is in a network with others, whose names the gateway knows.
    #[serde(default)]
    pub neighbours: bool,
    /// How fast the guest's line is.
    #[serde(default)]
    pub rates: Rates,
}

/// Bytes a second, [`SLOWEST`] at least; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// To the guest.
    pub inward: Option<u64>,
    /// From the guest.
    pub outward: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mac: MAC,
            address: GUEST.0,
            address6: GUEST.1,
            host: false,
            egress: None,
            resolvers: Vec::new(),
            neighbours: false,
            rates: Rates::default(),
        }
    }
}

fn address6() -> Ipv6Addr {
    GUEST.1
}

/// The IPv6 address that goes with an IPv4 address in one of hull's networks: its last number is written the same in both.
#[must_use]
pub fn address_in(subnet: u16, address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, ..] = GATEWAY.1.segments();
    let [.., last] = address.octets();
    let tens = u16::from(last / 10 % 10) << 4;
    let hundreds = u16::from(last / 100) << 8;
    Ipv6Addr::new(
        a,
        b,
        c,
        subnet,
        0,
        0,
        0,
        hundreds | tens | u16::from(last % 10),
    )
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A socket of the host's whose peers are led to the guest: it is bound, and listens if it is TCP's.
#[derive(Debug)]
pub struct Port {
    /// Of which transport.
    pub transport: Transport,
    /// The guest's port.
    pub guest: u16,
    /// The socket; it does not block.
    pub socket: OwnedFd,
}

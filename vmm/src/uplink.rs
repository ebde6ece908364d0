//! Network cards that lead to the host's own devices, for whoever has the privilege, instead of to a network of hull's. Refuses to
//! know machines and packets.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use protocol::{Address, Bytes, Network, Route};
use serde::{Deserialize, Serialize};

use crate::agent::Task;
use crate::container::Config;
use crate::failure::Failure;

mod netlink;
mod tap;

pub(crate) use tap::is_name as is_device_name;

/// What a card leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Uplink {
    /// A tap device, by name; the card has these addresses.
    Tap { device: String, card: Card },
}

impl Uplink {
    /// As it is typed.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tap { device, .. } => format!("tap:{device}"),
        }
    }
}

/// An address, and how many of its leading bits all of its network share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

/// What is no [`Cidr`].
#[derive(Debug, thiserror::Error)]
#[error("no address with the length of its network, such as 192.0.2.5/24")]
pub(crate) struct CidrError;

impl Cidr {
    fn most(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether a card can have it: it is one machine's, and not its network itself.
    pub(crate) fn is_usable(&self) -> bool {
        let rest = match self.address {
            IpAddr::V4(address) => address.to_bits().checked_shl(self.bits.into()),
            IpAddr::V6(_) => None,
        };
        let whole = self.bits >= Self::most(self.address) - 1;
        let end = rest == Some(0) || rest.is_some_and(|rest| rest == u32::MAX << self.bits);
        !self.address.is_unspecified()
            && !self.address.is_multicast()
            && !self.address.is_loopback()
            && self.bits != 0
            && (whole || !end)
    }

    /// Whether an address is of its network.
    pub(crate) fn has(&self, other: IpAddr) -> bool {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let differ = number(self.address) ^ number(other);
        self.address.is_ipv4() == other.is_ipv4() && differ.leading_zeros() >= self.bits.into()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, bits) = text.split_once('/').ok_or(CidrError)?;
        let address = address.parse().map_err(|_| CidrError)?;
        match bits.parse() {
            Ok(bits) if bits <= Self::most(address) => Ok(Self { address, bits }),
            _ => Err(CidrError),
        }
    }
}

/// A way to a network; by nobody where it is on the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way {
    pub(crate) to: Cidr,
    pub(crate) by: Option<IpAddr>,
}

impl Way {
    /// To everywhere.
    pub(crate) fn out(by: IpAddr) -> Self {
        let address = match by {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let (to, by) = (Cidr { address, bits: 0 }, Some(by));
        Self { to, by }
    }
}

/// A card's addresses and ways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) ways: Vec<Way>,
}

impl Card {
    /// What guest init is to do with the card.
    pub(crate) fn network(&self, mac: [u8; 6], mtu: u32) -> Network {
        let addresses = self.addresses.iter().map(|own| Address {
            address: bytes(own.address),
            prefix: own.bits,
        });
        let routes = self.ways.iter().map(|way| Route {
            destination: bytes(way.to.address),
            prefix: way.to.bits,
            gateway: way.by.map_or(Bytes(Vec::new()), bytes),
        });
        Network {
            mtu,
            addresses: addresses.collect(),
            mac: Bytes(mac.to_vec()),
            routes: routes.collect(),
        }
    }
}

pub(crate) fn bytes(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes(address.octets().to_vec()),
        IpAddr::V6(address) => Bytes(address.octets().to_vec()),
    }
}

/// Opens what a container's card leads to, if it leads to a device of the host's, and says in its task what guest init must know of
/// that.
pub(crate) fn attach(config: &Config, task: &mut Task) -> Result<Option<OwnedFd>, Failure> {
    match &config.uplink {
        None => Ok(None),
        Some(Uplink::Tap { device, .. }) => {
            let opened = tap::open(device);
            let (tap, device) = opened.map_err(|error| {
                let hint = error.hint();
                Failure::new(error).hint(hint)
            })?;
            if let Some(network) = &mut task.container.network {
                network.mtu = device.mtu;
            }
            Ok(Some(tap))
        }
    }
}

#[cfg(test)]
mod tests;

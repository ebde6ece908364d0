//! Network cards that lead to the host's own devices, for whoever has the privilege, instead of to a network of hull's. Refuses to
//! know machines and packets.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use protocol::{Address, Bytes, Network, Route};
use serde::{Deserialize, Serialize};

use crate::agent::Task;
use crate::container::Container;
use crate::failure::Failure;

mod cni;
mod namespace;
mod netlink;
mod tap;

pub(crate) use cni::{Place, Wishes};
pub(crate) use namespace::Namespace;
pub(crate) use tap::is_name as is_device_name;

/// A container's own address in its hosts(5), as long as it is not known.
pub(crate) const UNKNOWN: &str = "127.0.1.1";

/// What a card leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Uplink {
    /// A tap device, by name; the card has these addresses.
    Tap { device: String, card: Card },
    /// A CNI network, by name.
    Cni {
        network: String,
        wishes: Wishes,
        /// The network's name servers are its own.
        resolves: bool,
    },
}

impl Uplink {
    /// As it is typed.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tap { device, .. } => format!("tap:{device}"),
            Self::Cni { network, .. } => format!("cni:{network}"),
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
    /// A network of one address.
    pub(crate) fn alone(address: IpAddr) -> Self {
        let bits = Self::most(address);
        Self { address, bits }
    }

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

/// What a container's card leads to, open.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub(crate) tap: Option<OwnedFd>,
    /// Where its device is, if not among the host's own.
    pub(crate) namespace: Option<Namespace>,
    /// What the card has, where that was not known before.
    pub(crate) card: Option<Card>,
}

/// Opens what a container's card leads to, if it leads to a device of the host's, and says in its task what guest init must know of
/// that. To be undone by [`detach`].
pub(crate) fn attach(container: &Container, task: &mut Task) -> Result<Attached, Failure> {
    match &container.config.uplink {
        None => Ok(Attached::default()),
        Some(Uplink::Tap { device, .. }) => {
            let (tap, device) = tap::open(device).map_err(of_tap)?;
            if let Some(network) = &mut task.container.network {
                network.mtu = device.mtu;
            }
            Ok(Attached {
                tap: Some(tap),
                ..Attached::default()
            })
        }
        Some(Uplink::Cni {
            network,
            wishes,
            resolves,
        }) => {
            // One that a killed supervisor has left.
            detach(container, None);
            let namespace = Namespace::new().map_err(|error| {
                let text = format!("A network namespace for cni:{network} cannot be made: {error}");
                Failure::new(text).hint("CNI plugins work on the host's network: run hull as root.")
            })?;
            let ports = &container.config.ports;
            let mut place = Place::new(&container.config.id, network, wishes, ports)?;
            // Before anything is done: whoever finds it has it undone.
            container.set_place(&place)?;
            let added = place.add(&namespace.path(), wishes);
            let joined = added.map_err(Failure::from).and_then(|(card, dns)| {
                container.set_place(&place)?;
                let joined = namespace.join(cni::DEVICE).map_err(of_tap)?;
                Ok((card, dns, joined))
            });
            let (card, dns, (tap, device)) = match joined {
                Ok(joined) => joined,
                Err(failure) => {
                    detach(container, Some(&namespace));
                    return Err(failure);
                }
            };
            let inside = &mut task.container;
            inside.network = Some(card.network(device.mac, device.mtu));
            if let (Some(own), Some(hosts)) = (card.addresses.first(), &mut inside.hosts) {
                let text = String::from_utf8_lossy(hosts);
                let text = text.replacen(UNKNOWN, &own.address.to_string(), 1);
                *hosts = text.into();
            }
            if *resolves && !dns.nameservers.is_empty() {
                inside.resolv_conf = Some(dns.text().into());
            }
            Ok(Attached {
                tap: Some(tap),
                namespace: Some(namespace),
                card: Some(card),
            })
        }
    }
}

/// Has the container's place in a CNI network given up, if it has one; its supervisor alone may. What fails is left for the next who
/// comes here.
pub(crate) fn detach(container: &Container, namespace: Option<&Namespace>) {
    if !matches!(container.config.uplink, Some(Uplink::Cni { .. })) {
        return;
    }
    if let Ok(Some(place)) = container.place() {
        let path = namespace.map(Namespace::path);
        if place.delete(path.as_deref()).is_ok() {
            container.forget_place();
        }
    }
}

fn of_tap(error: tap::TapError) -> Failure {
    let hint = error.hint();
    Failure::new(error).hint(hint)
}

#[cfg(test)]
mod tests;

//! Where a guest may go: never where only the host itself belongs, and, if there are rules, only where one of them says.
//! Refuses to know packets.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most addresses that are known by the names that led to them; then the oldest is forgotten.
const MOST_PINS: usize = 4096;

/// A place that is allowed: where, and which port if not all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    place: Place,
    port: Option<u16>,
}

/// Where a rule allows to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// The addresses that begin with so many bits of this one.
    Network(IpAddr, u8),
    /// The addresses that DNS gives for this name, in lower case.
    Name(String),
    /// The addresses that DNS gives for any name below this one.
    Below(String),
}

/// Text that is no rule.
#[derive(Debug, thiserror::Error)]
#[error("no place: HOST, *.DOMAIN, ADDRESS or NETWORK/BITS, and :PORT if not all")]
pub struct RuleError;

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if let Some(place) = network(text) {
            return Ok(Self { place, port: None });
        }
        let (place, port) = match text.rsplit_once(':') {
            Some((place, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (place, Some(port.ok_or(RuleError)?))
            }
            None => (text, None),
        };
        let bare = place
            .strip_prefix('[')
            .and_then(|place| place.strip_suffix(']'));
        if let Some(place) = network(bare.unwrap_or(place)) {
            return Ok(Self { place, port });
        }
        let name = place.trim_end_matches('.').to_ascii_lowercase();
        let place = match name.strip_prefix("*.") {
            Some(domain) if is_name(domain) => Place::Below(domain.to_owned()),
            None if is_name(&name) => Place::Name(name),
            _ => return Err(RuleError),
        };
        Ok(Self { place, port })
    }
}

fn network(text: &str) -> Option<Place> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some(Place::Network(address, bits))
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let fits = (1..=63).contains(&label.len());
        fits && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.port) {
            (Place::Network(address, bits), None) => write!(out, "{address}/{bits}"),
            (Place::Network(address @ IpAddr::V6(_), bits), Some(_)) => {
                write!(out, "[{address}/{bits}]")
            }
            (Place::Network(address, bits), Some(_)) => write!(out, "{address}/{bits}"),
            (Place::Name(name), _) => write!(out, "{name}"),
            (Place::Below(domain), _) => write!(out, "*.{domain}"),
        }?;
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

impl Rule {
    fn names(&self, name: &str) -> bool {
        match &self.place {
            Place::Network(..) => false,
            Place::Name(own) => own == name,
            Place::Below(domain) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        let Place::Network(network, bits) = self.place else {
            return false;
        };
        let (own, other, width) = match (network, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits().into(), other.to_bits().into(), 32_u32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let shift = width.saturating_sub(bits.into());
        let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
        cut(own) == cut(other)
    }
}

/// The rules of one guest, and what it has asked DNS.
#[derive(Debug)]
pub(crate) struct Egress {
    /// `None`: everywhere.
    rules: Option<Vec<Rule>>,
    /// Addresses, and the ports (`None`: all) for which a rule's name led to them.
    pins: HashMap<IpAddr, Vec<Option<u16>>>,
    /// Their order.
    order: VecDeque<IpAddr>,
}

impl Egress {
    pub(crate) fn new(rules: Option<Vec<Rule>>) -> Self {
        Self {
            rules,
            pins: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether names must be looked at.
    pub(crate) fn is_restricted(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether the guest may send to this address, and this port if the protocol has any.
    pub(crate) fn allows(&self, address: IpAddr, port: Option<u16>) -> bool {
        if is_forbidden(address) {
            return false;
        }
        let Some(rules) = &self.rules else {
            return true;
        };
        let fits = |own: Option<u16>| own.is_none() || own == port;
        let pinned = self.pins.get(&address);
        rules
            .iter()
            .any(|rule| rule.has(address) && fits(rule.port))
            || pinned.is_some_and(|ports| ports.iter().any(|own| fits(*own)))
    }

    /// Whether a name may be asked for.
    pub(crate) fn allows_name(&self, name: &str) -> bool {
        let rules = self.rules.as_ref();
        rules.is_none_or(|rules| rules.iter().any(|rule| rule.names(name)))
    }

    /// DNS gave this address for a name.
    pub(crate) fn pin(&mut self, name: &str, address: IpAddr) {
        let Some(rules) = &self.rules else { return };
        let ports: Vec<Option<u16>> = rules
            .iter()
            .filter(|rule| rule.names(name))
            .map(|rule| rule.port)
            .collect();
        if ports.is_empty() {
            return;
        }
        let known = self.pins.entry(address).or_insert_with(|| {
            self.order.push_back(address);
            Vec::new()
        });
        for port in ports {
            if !known.contains(&port) {
                known.push(port);
            }
        }
        if self.order.len() > MOST_PINS
            && let Some(oldest) = self.order.pop_front()
        {
            self.pins.remove(&oldest);
        }
    }
}

/// Addresses that mean the host itself, its own link or many at once, in any disguise.
fn is_forbidden(address: IpAddr) -> bool {
    /// Where clouds keep a machine's credentials.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => {
            let [first, second, third, fourth, fifth, sixth, high, low] = address.segments();
            let (inner, outer) = (high.to_be_bytes(), low.to_be_bytes());
            let embedded = Ipv4Addr::from([inner, outer].concat().try_into().unwrap_or([0; 4]));
            let zeros = [second, third, fourth, fifth] == [0; 4];
            let mapped = first == 0 && zeros && (sixth == 0xffff || sixth == 0);
            let translated = [first, second] == [0x64, 0xff9b];
            mapped
                || translated && is_forbidden_v4(embedded)
                || first & 0xffc0 == 0xfe80
                || first & 0xff00 == 0xff00
                || address == METADATA
        }
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || first >= 224 || address.is_loopback() || address.is_link_local()
}

/// Whether a peer's address means the same peer in a guest.
pub(crate) fn is_elsewhere(address: Ipv4Addr) -> bool {
    let own = crate::GATEWAY.0.octets();
    !is_forbidden_v4(address) && address.octets().get(..3) != own.get(..3)
}

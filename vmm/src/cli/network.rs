//! The flags about a container's network. What is meant by them together is `plan::network`'s business.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use network::{Rates, Rule, RuleError, SLOWEST, Transport};

use super::{Size, SizeError, is_name};
use crate::publish::{self, PublishError, Published};
use crate::uplink::{Cidr, CidrError, is_device_name};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// What the container is connected to: default (out to wherever the host gets, nothing in but
    /// what -p publishes), none, the same as default with the other containers of a network that
    /// `hull network create` made, tap:DEVICE, a tap device of the host's: whoever is behind that
    /// sees its frames, with the address that --ip gives; or cni:NAME, for root, the CNI network of that
    /// name ($NETCONFPATH or /etc/cni/net.d, $CNI_PATH or /opt/cni/bin and /usr/lib/cni)
    #[arg(long, value_name = "NETWORK", alias = "net", default_value = "default")]
    pub(crate) network: Connection,
    /// What else than its name the container is called in its network
    #[arg(long, value_name = "NAME", alias = "net-alias")]
    pub(crate) network_alias: Vec<String>,
    /// Lead a port of the host's, or a range of ports, to one of the container's; without a host's
    /// port, any that is free
    #[arg(short, long, value_name = "[[IP:][PORT]:]PORT[/PROTOCOL]")]
    pub(crate) publish: Vec<Published>,
    /// Publish all ports that the image or --expose names, on free ports of the host
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Name a port for --publish-all
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) expose: Vec<Exposed>,
    /// The container's address, 10.0.2.3 to 10.0.2.254 [default: 10.0.2.15; in a network of one's own, the
    /// first that is free]. On a tap device any, with the length of its network [default: none]
    #[arg(long, value_name = "IP[/BITS]")]
    pub(crate) ip: Option<Ip<Ipv4Addr>>,
    /// Its IPv6 address on a tap device
    #[arg(long, value_name = "IP/BITS")]
    pub(crate) ip6: Option<Ip<Ipv6Addr>>,
    /// The router to everywhere else that is behind a tap device: one for each kind of address
    #[arg(long, value_name = "IP")]
    pub(crate) gateway: Vec<IpAddr>,
    /// Hardware address of the container's network card, which no other container has [default: the
    /// beginning of its id]
    #[arg(long, value_name = "MAC")]
    pub(crate) mac_address: Option<Mac>,
    /// Where the container may go, instead of everywhere: deny is nowhere, allow=PLACE[:PORT] also there. A
    /// place is a host name, *.DOMAIN, an address or NETWORK/BITS. Names that are not allowed are not
    /// resolved, and those that are lead only where DNS said
    #[arg(long, value_name = "deny|allow=PLACE")]
    pub(crate) egress: Vec<Egress>,
    /// Bytes a second that the container's network carries, such as 10m: each way, or in=RATE for what
    /// comes to it and out=RATE for what it sends, or both with a comma between them
    #[arg(long, value_name = "RATE|in=RATE,out=RATE")]
    pub(crate) net_rate: Option<NetRate>,
}

/// What a container is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    Default,
    None,
    /// A network of the user's own, by name.
    Own(String),
    /// A tap device of the host's, by name.
    Tap(String),
    /// A CNI network, by name.
    Cni(String),
}

impl Connection {
    /// The network of the user's own.
    pub(crate) fn own(&self) -> Option<&str> {
        match self {
            Self::Own(name) => Some(name),
            Self::Default | Self::None | Self::Tap(_) | Self::Cni(_) => None,
        }
    }
}

/// Networks that hull does not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(
        "a container has a kernel of its own, which cannot share the host's network: publish ports, and reach the host with --add-host host.hull.internal:host-gateway"
    )]
    Host,
    #[error("a container has a kernel of its own, which cannot share another container's network")]
    Container,
    #[error("no name of a network: letters, digits, and then also `_`, `.` and `-`, two at least")]
    Name,
    #[error(
        "no name of a network device: 1 to 15 letters, digits and signs, none of them `/`, `:` or `%`"
    )]
    Device,
}

impl fmt::Display for Connection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::None => out.write_str("none"),
            Self::Own(name) => out.write_str(name),
            Self::Tap(device) => write!(out, "tap:{device}"),
            Self::Cni(name) => write!(out, "cni:{name}"),
        }
    }
}

impl FromStr for Connection {
    type Err = ConnectionError;

    fn from_str(text: &str) -> Result<Self, ConnectionError> {
        match text {
            "default" | "bridge" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "host" => Err(ConnectionError::Host),
            text if text.starts_with("container:") => Err(ConnectionError::Container),
            text if text.starts_with("cni:") => match text.split_at(4).1 {
                name if is_name(name) => Ok(Self::Cni(name.to_owned())),
                _ => Err(ConnectionError::Name),
            },
            text if text.starts_with("tap:") => match text.split_at(4).1 {
                device if is_device_name(device) => Ok(Self::Tap(device.to_owned())),
                _ => Err(ConnectionError::Device),
            },
            text if is_name(text) => Ok(Self::Own(text.to_owned())),
            _ => Err(ConnectionError::Name),
        }
    }
}

/// An address, perhaps with how many of its leading bits all of its network share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip<A> {
    pub(crate) address: A,
    pub(crate) bits: Option<u8>,
}

/// What is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IpError {
    #[error("no address of this kind")]
    Address,
    #[error(transparent)]
    Cidr(#[from] CidrError),
}

impl<A: Copy + Into<IpAddr>> Ip<A> {
    /// With its network, if that was said.
    pub(crate) fn cidr(&self) -> Option<Cidr> {
        let address = self.address.into();
        self.bits.map(|bits| Cidr { address, bits })
    }
}

impl<A: FromStr> FromStr for Ip<A> {
    type Err = IpError;

    fn from_str(text: &str) -> Result<Self, IpError> {
        let parsed = text.split('/').next().map(str::parse);
        let address = parsed.and_then(Result::ok).ok_or(IpError::Address)?;
        let bits = match text.contains('/') {
            true => Some(text.parse::<Cidr>()?.bits),
            false => None,
        };
        Ok(Self { address, bits })
    }
}

/// A port that the image could have named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exposed(pub(crate) u16, pub(crate) Transport);

impl FromStr for Exposed {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, PublishError> {
        publish::port(text).map(|(port, transport)| Self(port, transport))
    }
}

/// A hardware address of one card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

/// What is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "no hardware address of one card: six pairs of hexadecimal digits with colons between them, the first one even, not all 0"
)]
pub(crate) struct MacError;

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let byte = |word: &str| {
            let pair = word.len() == 2 && word.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(word, 16).ok().filter(|_| pair)
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let bytes: [u8; 6] = bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(MacError)?;
        match bytes[0] & 1 == 0 && bytes != [0; 6] {
            true => Ok(Self(bytes)),
            false => Err(MacError),
        }
    }
}

/// A value of `--egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Egress {
    Deny,
    Allow(Rule),
}

/// What is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("write deny or allow=PLACE")]
    Form,
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl FromStr for Egress {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        match text.split_once('=') {
            None if text == "deny" => Ok(Self::Deny),
            Some(("allow", place)) => Ok(Self::Allow(place.parse()?)),
            _ => Err(EgressError::Form),
        }
    }
}

/// A value of `--net-rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NetRate(pub(crate) Rates);

/// What is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetRateError {
    #[error("write RATE, in=RATE, out=RATE or in=RATE,out=RATE")]
    Form,
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error("a network carries {}k a second at least", SLOWEST >> 10)]
    Slow,
}

impl FromStr for NetRate {
    type Err = NetRateError;

    fn from_str(text: &str) -> Result<Self, NetRateError> {
        let rate = |text: &str| match text.parse::<Size>()? {
            Size(bytes) if bytes < SLOWEST => Err(NetRateError::Slow),
            Size(bytes) => Ok(Some(bytes)),
        };
        let mut rates = Rates::default();
        if !text.contains('=') {
            (rates.inward, rates.outward) = (rate(text)?, rate(text)?);
            return Ok(Self(rates));
        }
        for part in text.split(',') {
            let place = match part.split_once('=') {
                Some(("in", text)) => (&mut rates.inward, text),
                Some(("out", text)) => (&mut rates.outward, text),
                _ => return Err(NetRateError::Form),
            };
            if place.0.is_some() {
                return Err(NetRateError::Form);
            }
            *place.0 = rate(place.1)?;
        }
        Ok(Self(rates))
    }
}

#[cfg(test)]
mod tests;

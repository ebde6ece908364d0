//! Published ports: `-p` as it is typed, the sockets it becomes, and who has a port that cannot be had. Refuses to know what is
//! behind them.

pub(crate) mod holder;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use network::{Port, Transport};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use serde::{Deserialize, Serialize};

/// Connections that wait until they are accepted; as many as this host allows.
const BACKLOG: i32 = 4096;
/// How often another port is tried where any will do and its twin of the other family is taken.
const ATTEMPTS: usize = 16;

/// A port of the host's that leads to one of a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publish {
    /// On which of the host's addresses; `None` is all.
    pub(crate) address: Option<IpAddr>,
    /// The host's port; 0 is any.
    pub(crate) host: u16,
    /// The container's port.
    pub(crate) guest: u16,
    /// Of which protocol.
    pub(crate) transport: Transport,
}

/// One value of `-p`: a port, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published(pub(crate) Vec<Publish>);

/// What is no value of `-p`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("{0:?} is not an address")]
    Address(String),
    #[error("{0:?} is not a port: 1 to 65535")]
    Port(String),
    #[error("{0:?} is no protocol: tcp or udp")]
    Protocol(String),
    #[error("the two ranges are of different lengths")]
    Ranges,
    #[error("a container has at most {most} published ports", most = network::MOST_PORTS / 2)]
    TooMany,
}

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("Publishing port {what} failed")]
pub(crate) struct BindError {
    what: String,
    /// Somebody has it.
    taken: bool,
    /// Where it was to be.
    address: SocketAddr,
    transport: Transport,
    source: Errno,
}

/// `PORT/tcp` or `PORT/udp`, without a protocol tcp.
pub(crate) fn port(text: &str) -> Result<(u16, Transport), PublishError> {
    let (ports, transport) = protocol(text)?;
    Ok((number(ports)?, transport))
}

fn protocol(text: &str) -> Result<(&str, Transport), PublishError> {
    match text.rsplit_once('/') {
        None => Ok((text, Transport::Tcp)),
        Some((rest, "tcp")) => Ok((rest, Transport::Tcp)),
        Some((rest, "udp")) => Ok((rest, Transport::Udp)),
        Some((_, other)) => Err(PublishError::Protocol(other.to_owned())),
    }
}

fn number(text: &str) -> Result<u16, PublishError> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| PublishError::Port(text.to_owned()))
}

/// First and last port.
pub(crate) fn range(text: &str) -> Result<(u16, u16), PublishError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    match first <= last {
        true => Ok((first, last)),
        false => Err(PublishError::Port(text.to_owned())),
    }
}

impl FromStr for Published {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, PublishError> {
        let (text, transport) = protocol(text)?;
        let (front, guest) = text.rsplit_once(':').unwrap_or(("", text));
        let (address, host) = match front.rsplit_once(':') {
            None => (None, front),
            Some((address, host)) => {
                let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
                let parsed = bare.unwrap_or(address).parse();
                let parsed = parsed.map_err(|_| PublishError::Address(address.to_owned()))?;
                (Some(parsed), host)
            }
        };
        let (guest, last) = range(guest)?;
        let count = last - guest;
        let host = match host {
            "" => None,
            host => {
                let (first, last) = range(host)?;
                if last - first != count {
                    return Err(PublishError::Ranges);
                }
                Some(first)
            }
        };
        if usize::from(count) >= network::MOST_PORTS / 2 {
            return Err(PublishError::TooMany);
        }
        let ports = (0..=count).map(|step| Publish {
            address,
            host: host.map_or(0, |host| host + step),
            guest: guest + step,
            transport,
        });
        Ok(Self(ports.collect()))
    }
}

/// How a port is published: the address and port it was given, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) host: SocketAddr,
    pub(crate) guest: u16,
    pub(crate) transport: Transport,
}

impl Bound {
    /// A port that somebody else publishes.
    pub(crate) fn by_others(port: &Publish) -> Self {
        let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            host: SocketAddr::new(port.address.unwrap_or(all), port.host),
            guest: port.guest,
            transport: port.transport,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}->{}/{}",
            self.host,
            self.guest,
            name(self.transport)
        )
    }
}

/// What a protocol is called.
pub(crate) fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// Sockets for all of these ports, or for none.
pub(crate) fn bind_all(ports: &[Publish]) -> Result<(Vec<Port>, Vec<Bound>), BindError> {
    let (mut sockets, mut bound) = (Vec::new(), Vec::new());
    for port in ports {
        for (socket, host) in bind_one(port)? {
            let (guest, transport) = (port.guest, port.transport);
            sockets.push(Port {
                transport,
                guest,
                socket,
            });
            bound.push(Bound {
                host,
                guest,
                transport,
            });
        }
    }
    Ok((sockets, bound))
}

fn bind_one(port: &Publish) -> Result<Vec<(OwnedFd, SocketAddr)>, BindError> {
    let failed = |address: SocketAddr| {
        let what = format!("{address}/{}", name(port.transport));
        move |source: Errno| BindError {
            what,
            taken: source == Errno::ADDRINUSE,
            address,
            transport: port.transport,
            source,
        }
    };
    if let Some(address) = port.address {
        let address = SocketAddr::new(address, port.host);
        let socket = open(address, port.transport).map_err(failed(address))?;
        return Ok(vec![socket]);
    }
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.host));
    for attempt in 1.. {
        let (socket, v4) = open(v4, port.transport).map_err(failed(v4))?;
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, v4.port()));
        match open(v6, port.transport) {
            Ok(twin) => return Ok(vec![(socket, v4), twin]),
            // A host without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => return Ok(vec![(socket, v4)]),
            Err(Errno::ADDRINUSE) if port.host == 0 && attempt < ATTEMPTS => {}
            Err(error) => return Err(failed(v6)(error)),
        }
    }
    Ok(Vec::new())
}

fn open(address: SocketAddr, transport: Transport) -> Result<(OwnedFd, SocketAddr), Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if transport == Transport::Tcp {
        // Connections of an earlier start may still be ending.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if transport == Transport::Tcp {
        listen(&socket, BACKLOG)?;
    }
    let own = getsockname(&socket)?;
    Ok((socket, SocketAddr::try_from(own).unwrap_or(address)))
}

#[cfg(test)]
mod tests;

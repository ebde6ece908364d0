//! Which proxy a request goes through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` as curl and Go read
//! them. Knows no connection.

use std::ffi::OsString;
use std::net::IpAddr;

use super::url::Origin;

#[cfg(test)]
mod tests;

/// The proxies that the environment names. Addresses can hold passwords and are never shown.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    https: Option<String>,
    http: Option<String>,
    exempt: Vec<Exempt>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exempt {
    /// `*`
    All,
    /// `example.com[:port]` with its subdomains, or `.example.com` for these alone.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
    /// An address, or a network by the length of its prefix.
    Network { address: IpAddr, prefix: u8 },
}

impl Proxies {
    /// Reads the variables through `variable`. Lower-case names win, as with curl.
    pub(crate) fn new(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let text = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| variable(name)?.into_string().ok())
                .find(|value| !value.is_empty())
        };
        let exempt = text(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        Self {
            https: text(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http: text(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            exempt: exempt.split([',', ' ']).filter_map(Exempt::read).collect(),
        }
    }

    /// The proxy for `origin`. This machine is reached without one.
    pub(crate) fn of(&self, origin: &Origin) -> Option<&str> {
        if origin.is_loopback() || self.exempt.iter().any(|exempt| exempt.matches(origin)) {
            return None;
        }
        let proxy = if origin.secure {
            &self.https
        } else {
            &self.http
        };
        proxy.as_deref()
    }
}

impl Exempt {
    fn read(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, prefix)) = entry.split_once('/') {
            return Some(Self::Network {
                address: address.parse().ok()?,
                prefix: prefix.parse().ok()?,
            });
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Some(Self::Network {
                address,
                prefix: u8::MAX,
            });
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('*');
        Some(Self::Domain {
            itself: !name.starts_with('.'),
            name: name.trim_start_matches('.').to_owned(),
            port,
        })
    }

    fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::All => true,
            Self::Domain { name, itself, port } => {
                port.is_none_or(|port| port == origin.port)
                    && origin
                        .host
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.ends_with('.') || (rest.is_empty() && *itself))
            }
            Self::Network { address, prefix } => {
                let bare = origin.host.trim_start_matches('[').trim_end_matches(']');
                bare.parse().is_ok_and(|ip| within(ip, *address, *prefix))
            }
        }
    }
}

fn within(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (ip, network, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (
            u128::from(u32::from(ip)),
            u128::from(u32::from(network)),
            32_u8,
        ),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (u128::from(ip), u128::from(network), 128),
        _ => return false,
    };
    let host_bits = u32::from(width.saturating_sub(prefix));
    (ip ^ network).checked_shr(host_bits).unwrap_or(0) == 0
}

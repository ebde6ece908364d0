//! `HOST:IP` and `NAME=VALUE`. Looks nothing up.

use std::net::IpAddr;
use std::str::FromStr;

use protocol::Sysctl;

/// A line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// The address is the gateway's, behind which the host itself is to be.
    pub(crate) gateway: bool,
}

/// What is no line of /etc/hosts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("write it as HOST:IP or HOST=IP")]
    Form,
    #[error("{0:?} is not an address")]
    Address(String),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        // An IPv6 address has colons of its own, but no name has an equals sign.
        let halves = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = halves.ok_or(HostError::Form)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '#' || c == ':') {
            return Err(HostError::Form);
        }
        if address == "host-gateway" {
            return Ok(Self {
                name: name.to_owned(),
                address: network::GATEWAY.0.into(),
                gateway: true,
            });
        }
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
        let parsed = bare.unwrap_or(address).parse();
        Ok(Self {
            name: name.to_owned(),
            address: parsed.map_err(|_| HostError::Address(address.to_owned()))?,
            gateway: false,
        })
    }
}

/// A parameter of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter(pub(crate) Sysctl);

/// What is no parameter.
#[derive(Debug, thiserror::Error)]
#[error("write it as net.core.somaxconn=1024")]
pub(crate) struct ParameterError;

impl FromStr for Parameter {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self(Sysctl {
                name: name.into(),
                value: value.into(),
            })),
            _ => Err(ParameterError),
        }
    }
}

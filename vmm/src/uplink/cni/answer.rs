//! What CNI plugins answer: a card, how names are resolved, or why there is none.

use std::net::IpAddr;
use std::process::ExitStatus;

use serde::Deserialize;
use serde_json::Value;

use super::{CniError, DEVICE};
use crate::uplink::{Card, Cidr, Way};

/// What the last plugin answers, as far as it is for the container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    interfaces: Vec<Interface>,
    ips: Vec<Own>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Own {
    address: String,
    gateway: Option<IpAddr>,
    interface: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    gw: Option<IpAddr>,
}

impl Answer {
    /// The guest's card, and how it resolves names.
    pub(super) fn card(self) -> Result<(Card, Dns), CniError> {
        let odd = |text: &str| {
            let message = format!("{text:?} is no address with the length of its network");
            CniError::Result(serde::de::Error::custom(message))
        };
        let cidr = |text: &str| text.parse::<Cidr>().map_err(|_| odd(text));
        let interfaces = self.interfaces;
        let is_own = |own: &&Own| {
            let interface = own.interface.and_then(|index| interfaces.get(index));
            interface.is_none_or(|one| !one.sandbox.is_empty() && one.name == DEVICE)
        };
        let (mut card, mut routers) = (Card::default(), Vec::new());
        for own in self.ips.iter().filter(is_own) {
            card.addresses.push(cidr(&own.address)?);
            routers.extend(own.gateway);
        }
        for route in &self.routes {
            let to = cidr(&route.dst)?;
            // Where a route names no router, it is that of the addresses.
            let mut others = routers.iter().copied();
            let by = route
                .gw
                .or_else(|| others.find(|by| by.is_ipv4() == to.address.is_ipv4()));
            let near = |by: IpAddr| card.addresses.iter().any(|own| own.has(by));
            if let Some(by) = by.filter(|by| !near(*by)) {
                // Then it is on the link all the same.
                let link = Way {
                    to: Cidr::alone(by),
                    by: None,
                };
                if !card.ways.contains(&link) {
                    card.ways.push(link);
                }
            }
            card.ways.push(Way { to, by });
        }
        Ok((card, self.dns))
    }
}

/// How names are resolved.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::uplink) struct Dns {
    pub(in crate::uplink) nameservers: Vec<String>,
    pub(super) domain: String,
    pub(super) search: Vec<String>,
    pub(super) options: Vec<String>,
}

impl Dns {
    /// As resolv.conf(5) has it.
    pub(in crate::uplink) fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(
            self.nameservers
                .iter()
                .map(|server| format!("nameserver {server}")),
        );
        if !self.domain.is_empty() {
            lines.push(format!("domain {}", self.domain));
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                lines.push(format!("{keyword} {}", words.join(" ")));
            }
        }
        // A word with a line's end in it would be a line of its own.
        lines
            .iter()
            .map(|line| line.replace(char::is_control, " ") + "\n")
            .collect()
    }
}

/// What a plugin says of why it failed.
pub(super) fn complaint(answer: &[u8], status: ExitStatus) -> String {
    let said: Option<Value> = serde_json::from_slice(answer).ok();
    let word = |key| {
        said.as_ref()?
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    };
    match (word("msg"), word("details")) {
        (Some(text), Some(more)) => format!("{text} ({more})"),
        (Some(text), None) => text.to_owned(),
        (None, _) => format!("nothing, and ended with {status}"),
    }
}

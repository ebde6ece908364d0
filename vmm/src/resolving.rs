//! How this host resolves names (`/etc/resolv.conf`), which is how its containers do. Resolves nothing.

use std::net::{IpAddr, Ipv4Addr};

/// Name servers, domains to search and options of resolv.conf(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolving {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// How this host resolves names now. A host without the file asks itself.
pub(crate) fn of_host() -> Resolving {
    parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse(text: &str) -> Resolving {
    let mut found = Resolving::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let words = words.map(str::to_owned);
        match keyword {
            "nameserver" => found
                .servers
                .extend(words.take(1).filter_map(|word| word.parse::<IpAddr>().ok())),
            "search" | "domain" => found.search = words.collect(),
            "options" => found.options.extend(words),
            _ => {}
        }
    }
    if found.servers.is_empty() {
        found.servers.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

#[cfg(test)]
mod tests;

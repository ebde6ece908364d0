//! From a host name to addresses. hull is linked statically, and what the machine's name service switch asks for (mDNS,
//! systemd-resolved, LDAP) are libraries that belong to the machine's own C library: so its own `getent` looks names up.
//! Knows no connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{NextTimeout, time};

use crate::program;

#[cfg(test)]
mod tests;

/// Most that is read of the answer, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;
/// getent's status for a name that nobody knows.
const UNKNOWN: i32 = 2;
/// Most addresses that are tried.
const COUNT_MAX: usize = 16;

/// Looks names up as the machine does.
#[derive(Debug)]
pub(crate) struct Names {
    own: DefaultResolver,
    /// Ask the machine's getent rather than this program's own C library.
    getent: bool,
}

impl Names {
    /// As fits how this program is linked.
    pub(crate) fn new() -> Self {
        Self {
            own: DefaultResolver::default(),
            getent: cfg!(target_feature = "crt-static"),
        }
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // With a limit it would look up in a thread of its own, and panic on a host that has no more. An address is not looked up at
        // all, and the C library gives up by itself (resolv.conf(5), timeout and attempts).
        let unlimited = NextTimeout {
            after: time::Duration::NotHappening,
            ..timeout
        };
        let own = || self.own.resolve(uri, config, unlimited);
        let host = uri.host().unwrap_or_default();
        let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        if !self.getent || is_address {
            return own();
        }
        let found = match ask("getent", host, *timeout.after) {
            Ok(found) => found,
            // A machine without getent has nothing to switch either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return own(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(ureq::Error::Timeout(timeout.reason));
            }
            Err(error) => return Err(error.into()),
        };
        if found.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let mut addresses = self.empty();
        for address in found.into_iter().take(COUNT_MAX) {
            addresses.push(SocketAddr::new(address, port));
        }
        Ok(addresses)
    }
}

/// The addresses of a name, best first; none if nobody knows it.
fn ask(getent: &str, host: &str, patience: Duration) -> io::Result<Vec<IpAddr>> {
    // A host of an address that was parsed is no option.
    let mut command = Command::new(getent);
    command.args(["ahosts", "--", host]);
    let ended = program::run(&mut command, b"", ANSWER_MAX, patience)?;
    match ended.status.code() {
        Some(0) => Ok(read(&String::from_utf8_lossy(&ended.answer))),
        Some(UNKNOWN) => Ok(Vec::new()),
        _ => Err(io::Error::other(format!(
            "getent ended with {}",
            ended.status
        ))),
    }
}

/// Reads `ADDRESS KIND NAME` lines: each address comes once for each kind of socket.
fn read(answer: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in answer.lines() {
        let address = line.split_whitespace().next().unwrap_or_default();
        // What belongs to one interface only has its name behind it.
        if let Ok(address) = address.split('%').next().unwrap_or_default().parse()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

//! The name servers behind the gateway: which there are, whose turn it is, and what none of them has answered yet. Refuses to know flows
//! and names.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::dns::{self, Question};

/// Most questions that are kept until they are answered; then the oldest is asked no more.
const MOST_QUERIES: usize = 256;
/// Bytes of the longest one: nobody asks a longer one by UDP.
const LONGEST_QUERY: usize = 1232;
/// Most servers that are heard of.
const MOST_SERVERS: usize = 16;
/// Ticks after which the next server is asked, the first time and at most; doubled each time, so that the slowest is heard in the end.
const PATIENCE: u32 = 4;
const MOST_PATIENCE: u32 = 32;
/// Nanoseconds between two looks at how the host resolves names.
const LOOK: u64 = 1_000_000_000;

/// A list of servers as the host passes it on: 16 bytes each, IPv4 as IPv6 maps it.
#[must_use]
pub fn encode_servers(servers: &[IpAddr]) -> Vec<u8> {
    let bytes = servers.iter().map(|server| match server {
        IpAddr::V4(server) => server.to_ipv6_mapped().octets(),
        IpAddr::V6(server) => server.octets(),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn decode_servers(bytes: &[u8]) -> Vec<IpAddr> {
    let (servers, _) = bytes.as_chunks::<16>();
    let addresses = servers.iter().map(|server| Ipv6Addr::from(*server));
    addresses
        .map(|address| address.to_canonical())
        .take(MOST_SERVERS)
        .collect()
}

/// The servers.
#[derive(Debug)]
pub(crate) struct Servers {
    all: Vec<IpAddr>,
    /// The one that answered last.
    current: usize,
    /// Who tells of others, when asked.
    host: Option<OwnedFd>,
    looked: Option<u64>,
    queries: VecDeque<Query>,
}

/// A question that was not answered.
#[derive(Debug)]
pub(crate) struct Query {
    flow: usize,
    bytes: Vec<u8>,
    /// What it asks, if that was looked at.
    pub(crate) question: Option<Question>,
}

/// Whom a flow asks, and how long it has waited.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) server: usize,
    waited: u32,
    patience: u32,
    /// How many servers have refused, one after the other.
    refused: usize,
}

impl Turn {
    pub(crate) fn new(server: usize) -> Self {
        Self {
            server,
            waited: 0,
            patience: PATIENCE,
            refused: 0,
        }
    }

    /// Some ticks have passed. Whether it has waited for too long.
    pub(crate) fn tick(&mut self, passed: u32) -> bool {
        self.waited = self.waited.saturating_add(passed);
        let late = self.waited >= self.patience;
        if late {
            self.patience = self.patience.saturating_mul(2).min(MOST_PATIENCE);
            self.waited = 0;
        }
        late
    }

    /// It was answered.
    pub(crate) fn answered(&mut self) {
        *self = Self::new(self.server);
    }

    /// Its server refused. Whether there is another one of `count` that has not.
    pub(crate) fn refused(&mut self, count: usize) -> bool {
        self.refused = self.refused.saturating_add(1);
        let more = self.refused < count;
        if !more {
            self.refused = 0;
        }
        more
    }
}

impl Servers {
    pub(crate) fn new(all: Vec<IpAddr>) -> Self {
        Self {
            all,
            current: 0,
            host: None,
            looked: None,
            queries: VecDeque::new(),
        }
    }

    /// From now on `host` is asked for other servers.
    pub(crate) fn heed(&mut self, host: OwnedFd) {
        self.host = Some(host);
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// This one answers.
    pub(crate) fn stay_with(&mut self, place: usize) {
        self.current = place;
    }

    /// The address of the server at `place`, counted around.
    pub(crate) fn at(&self, place: usize) -> Option<SocketAddr> {
        let place = place.checked_rem(self.all.len())?;
        Some(SocketAddr::new(*self.all.get(place)?, dns::PORT))
    }

    /// Has the host look whether it resolves names by others now, unless it did a moment ago.
    pub(crate) fn look(&mut self, now: u64) {
        let recent = |looked: u64| now.wrapping_sub(looked) < LOOK;
        if let Some(host) = &self.host
            && !self.looked.is_some_and(recent)
        {
            self.looked = Some(now);
            let _ = send(host, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Hears what the host says. Whether there are other servers now.
    pub(crate) fn hear(&mut self) -> bool {
        let mut bytes = [0; 16 * MOST_SERVERS];
        let mut new = false;
        while let Some(host) = &self.host {
            match recv(host, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((length @ 1.., _)) => {
                    let all = decode_servers(bytes.get(..length).unwrap_or_default());
                    if all != self.all {
                        (self.all, self.current, new) = (all, 0, true);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                // Nobody says anything any more; closed, nobody waits for it either.
                Ok(_) | Err(_) => self.host = None,
            }
        }
        new
    }

    /// A flow asks; again, if it has asked with the same number.
    pub(crate) fn keep(&mut self, flow: usize, bytes: &[u8], question: Option<Question>) {
        if bytes.len() > LONGEST_QUERY {
            return;
        }
        self.take(flow, bytes);
        if self.queries.len() >= MOST_QUERIES {
            self.queries.pop_front();
        }
        let bytes = bytes.to_vec();
        self.queries.push_back(Query {
            flow,
            bytes,
            question,
        });
    }

    /// The question with the number of this answer, which is asked no more.
    pub(crate) fn take(&mut self, flow: usize, answer: &[u8]) -> Option<Query> {
        let place = self
            .queries
            .iter()
            .position(|query| query.flow == flow && query.bytes.get(..2) == answer.get(..2))?;
        self.queries.remove(place)
    }

    /// What a flow waits for.
    pub(crate) fn unanswered(&self, flow: usize) -> impl Iterator<Item = &[u8]> {
        let own = self.queries.iter().filter(move |query| query.flow == flow);
        own.map(|query| &query.bytes[..])
    }

    /// Nobody waits for these answers.
    pub(crate) fn forget(&mut self, flow: usize) {
        self.queries.retain(|query| query.flow != flow);
    }
}

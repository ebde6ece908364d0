//! What of the socket device outlives a save: connections with nothing under way, as numbers. Refuses to know what they carry.
//!
//! Where a connection was in the middle of something none survives, and the guest learns that all are gone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::connection::{Connection, Credit};
use super::packet::Key;
use super::{AWAKE, MOST_CONNECTIONS, stream_pair};
use crate::StateError;
use crate::poll::Watch;

/// What a snapshot says of the device.
#[derive(Debug, Serialize, Deserialize)]
pub struct VsockState {
    guest_cid: u64,
    /// All connections there were; `None` when the guest has to hear that they are gone.
    resting: Option<Vec<Resting>>,
}

/// A connection at rest.
#[derive(Debug, Serialize, Deserialize)]
struct Resting {
    guest_port: u32,
    host_port: u32,
    credit: Credit,
}

impl VsockState {
    /// The state with these connections, if all of them are at rest.
    pub(super) fn of(guest_cid: u64, connections: &BTreeMap<Key, Connection>, busy: bool) -> Self {
        let resting = connections.iter().map(|(key, connection)| {
            Some(Resting {
                guest_port: key.guest_port,
                host_port: key.host_port,
                credit: connection.credit_at_rest()?,
            })
        });
        Self {
            guest_cid,
            resting: resting.collect::<Option<_>>().filter(|_| !busy),
        }
    }

    /// The same, with no connection that would go on.
    pub(super) fn without_connections(self) -> Self {
        Self {
            resting: None,
            ..self
        }
    }

    /// Makes a stream for each connection and hands its other end to the launcher, in the order of their ports;
    /// `None` when there are none to go on.
    pub(super) fn revive(
        self,
        guest_cid: u64,
        watch: &Watch,
        channel: &Channel,
    ) -> Result<Option<BTreeMap<Key, Connection>>, StateError> {
        if self.guest_cid != guest_cid {
            return Err(StateError::Impossible("guest context id"));
        }
        let Some(resting) = self.resting else {
            return Ok(None);
        };
        if resting.len() > MOST_CONNECTIONS {
            return Err(StateError::Impossible("number of connections"));
        }
        let mut connections = BTreeMap::new();
        for Resting {
            guest_port,
            host_port,
            credit,
        } in resting
        {
            let key = Key {
                guest_port,
                host_port,
            };
            if !key.is_possible() || connections.contains_key(&key) {
                return Err(StateError::Impossible("connection"));
            }
            let ours = hand_over(key, watch, channel)
                .map_err(|_| StateError::Impossible("connection without a host"))?;
            connections.insert(key, Connection::revived(ours, credit));
        }
        Ok(Some(connections))
    }
}

/// A new stream for a connection, whose other end the launcher gets.
fn hand_over(key: Key, watch: &Watch, channel: &Channel) -> io::Result<OwnedFd> {
    let (ours, theirs) = stream_pair()?;
    channel.send_survivor(key.host_port, key.guest_port, theirs.as_fd())?;
    watch.add(&ours, key.mark(), AWAKE)?;
    Ok(ours)
}

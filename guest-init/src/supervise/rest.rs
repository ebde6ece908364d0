//! A container that is stopped while its machine is saved, and goes on: in the same machine, or in a copy of it, where all
//! connections are gone. Knows no disk and no memory.
//!
//! Between [`FromGuest::Resting`] and the host's next word nothing moves but this: no process of the container runs, and what
//! happens to streams is looked at afterwards, for in a copy all of them end at once, and none of that must reach a process.

use alloc::collections::BTreeMap;

use protocol::{FromGuest, Hello, Renewal, VERSION};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use super::{GROUP, HOST, Supervisor, failed};
use crate::failure::{SetupError, refused};
use crate::group::is_frozen;
use crate::host::{Host, Lost};
use crate::network;
use crate::renewal;
use crate::sys;

/// How far the container is stopped.
#[derive(Debug)]
pub(super) enum Rest {
    /// It runs.
    No,
    /// Its processes are told to stop; the events of their group, and whether to write down what is in memory only.
    Begun(OwnedFd, bool),
    /// It stands still, and this has happened to streams meanwhile.
    Resting(BTreeMap<u64, EventFlags>),
    /// The same in a copy.
    Copied,
}

impl Rest {
    /// Whether streams are left alone.
    pub(super) fn holds_streams(&self) -> bool {
        matches!(self, Self::Resting(_) | Self::Copied)
    }
}

impl Supervisor {
    /// Has all processes of the container stop.
    pub(super) fn rest(&mut self, sync: bool) -> Result<(), Lost> {
        let (Rest::No, Some(group)) = (&self.rest, &self.group) else {
            return Err(Lost::Failed(Errno::PROTO.into()));
        };
        let begun = group.events().and_then(|events| {
            let token = EventData::new_u64(GROUP);
            epoll::add(
                &self.epoll,
                &events,
                token,
                EventFlags::PRI | EventFlags::ET,
            )
            .map_err(refused("watch a descriptor"))?;
            group.freeze(true)?;
            Ok(events)
        });
        match begun {
            Ok(events) => {
                self.rest = Rest::Begun(events, sync);
                self.look_at_group()
            }
            // The host hears nothing, and says so to whoever waits.
            Err(_) => Ok(()),
        }
    }

    /// Tells the host when they have.
    pub(super) fn look_at_group(&mut self) -> Result<(), Lost> {
        if let Rest::Begun(events, sync) = &self.rest
            && is_frozen(events)
        {
            if *sync {
                rustix::fs::sync();
            }
            self.rest = Rest::Resting(BTreeMap::new());
            self.host.send(&FromGuest::Resting)?;
        }
        Ok(())
    }

    /// Something has happened to a stream: now, or when the container goes on.
    pub(super) fn stream_happened(&mut self, token: u64, flags: EventFlags) {
        match &mut self.rest {
            Rest::No | Rest::Begun(..) => self.streams.happened(&self.epoll, token, flags),
            Rest::Resting(seen) => *seen.entry(token).or_insert(flags) |= flags,
            // The connections of another machine.
            Rest::Copied => {}
        }
    }

    /// Lets the container go on as if nothing had been.
    pub(super) fn go_on(&mut self) -> Result<(), Lost> {
        let seen = match core::mem::replace(&mut self.rest, Rest::No) {
            Rest::No | Rest::Copied => return Ok(()),
            Rest::Begun(..) => BTreeMap::new(),
            Rest::Resting(seen) => seen,
        };
        self.thaw().map_err(lost)?;
        for (token, flags) in seen {
            self.streams.happened(&self.epoll, token, flags);
        }
        Ok(())
    }

    /// Hears the host. Whose connection is gone while the container rests is in a copy, and dials its own host.
    pub(super) fn hear(&mut self) -> Result<(), Lost> {
        if matches!(self.rest, Rest::Copied) && self.host.is_under_way()? {
            return Ok(());
        }
        match (self.listen(), &self.rest) {
            (Err(Lost::Closed), Rest::Resting(_)) => self.dial_anew(),
            (heard, _) => heard,
        }
    }

    fn dial_anew(&mut self) -> Result<(), Lost> {
        let hello = Hello {
            version: VERSION,
            tsc_at_start: sys::tsc(),
        };
        let socket = (self.dial)().map_err(|errno| Lost::Failed(errno.into()))?;
        // The old connection is closed with this, and watched no more.
        self.host = Host::greet(socket, hello)?;
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let token = EventData::new_u64(HOST);
        epoll::add(&self.epoll, self.host.as_fd(), token, events)
            .map_err(|errno| Lost::Failed(errno.into()))?;
        self.rest = Rest::Copied;
        Ok(())
    }

    /// Takes on what makes this machine another one, and lets the container go on.
    pub(super) fn become_another(&mut self, renewal: &Renewal) -> Result<(), Lost> {
        let Rest::Copied = self.rest else {
            return Err(Lost::Failed(Errno::PROTO.into()));
        };
        let mac = renewal.mac.as_deref();
        let renewed = renewal::renew(renewal)
            .and_then(|()| mac.map_or(Ok(()), network::set_hardware_address))
            .and_then(|()| self.reconnect())
            .and_then(|()| self.thaw());
        self.rest = Rest::No;
        let process = self.first;
        self.host.send(&match renewed {
            Ok(()) => FromGuest::Started {
                process,
                tsc: sys::tsc(),
            },
            Err(error) => failed(process, &error.into()),
        })
    }

    /// The first process's output goes to the new host; nobody asks for other processes here.
    fn reconnect(&mut self) -> Result<(), SetupError> {
        for running in core::mem::take(&mut self.processes) {
            if running.id != self.first {
                self.streams.drop(&running.streams);
                self.streams.release(&running.streams);
                if running.ended.is_none() {
                    // It may have ended just now.
                    let _ = sys::kill(running.pid, sys::SIGKILL);
                }
                continue;
            }
            let [inward @ .., output, error] = &running.streams[..] else {
                return Err(refused("find the streams")(Errno::INVAL));
            };
            // Its reader finds the end.
            self.streams.drop(inward);
            self.streams.redial(&self.epoll, *output)?;
            self.streams.redial(&self.epoll, *error)?;
            self.processes.push(running);
        }
        Ok(())
    }

    fn thaw(&self) -> Result<(), SetupError> {
        self.group
            .as_ref()
            .map_or(Ok(()), |group| group.freeze(false))
    }
}

fn lost(_: SetupError) -> Lost {
    Lost::Failed(Errno::IO.into())
}

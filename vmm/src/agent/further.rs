//! Processes beside the first: asked for by one client each, whose they are.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use protocol::{FromGuest, FromHost, ProcessId, Stream};

use super::clients::{Held, Role};
use super::{Agent, AgentError, DRAIN_LIMIT, Output, Sink};
use crate::control::{Answer, Ended};

impl Agent<'_> {
    /// A further process, asked for by the number that it gets.
    pub(super) fn further(
        &mut self,
        index: usize,
        attached: bool,
        ask: impl FnOnce(ProcessId) -> FromHost,
    ) -> Result<(), AgentError> {
        let is_held = self.is_held();
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return Ok(());
        };
        if !self.started || self.status.is_some() || client.role != Role::Fresh {
            client.tell(&Answer::Refused("it does not run".to_owned()), None);
            return Ok(());
        }
        if is_held {
            let why = "a snapshot of it is being made".to_owned();
            client.tell(&Answer::Refused(why), None);
            return Ok(());
        }
        self.last = ProcessId(self.last.0.wrapping_add(1));
        client.role = Role::Exec {
            process: self.last,
            attached,
        };
        client.streams = 0;
        self.tell(&ask(self.last))
    }

    /// A stream of a further process: straight to whoever started it, or to nobody.
    pub(super) fn attach_further(
        &mut self,
        process: ProcessId,
        which: Stream,
        stream: UnixStream,
        first: Vec<u8>,
    ) -> Result<(), AgentError> {
        if process.0 == 0 || process > self.last {
            return Err(AgentError::Protocol(
                "it attached a stream of a process that is not",
            ));
        }
        match self.watcher.of(process) {
            Some(client) if matches!(client.role, Role::Exec { attached: true, .. }) => {
                let answer = match which {
                    Stream::Stdin => Answer::Stdin,
                    which => Answer::Stream(which, first),
                };
                client.tell(&answer, Some(stream.as_fd()));
                if which == Stream::Terminal {
                    client.tell(&Answer::Stdin, Some(stream.as_fd()));
                }
                if which != Stream::Stdin {
                    client.streams = client.streams.saturating_add(1);
                    client.tell_end(true);
                }
            }
            _ if which != Stream::Stdin => {
                // Nobody wants it: it is no reason to end the others.
                self.drains.extend(Output::new(Sink::Nobody, stream, first));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the guest says of a further process.
    pub(super) fn hear_of_further(
        &mut self,
        process: ProcessId,
        message: FromGuest,
    ) -> Result<(), AgentError> {
        if process.0 == 0 || process > self.last {
            return Err(AgentError::Protocol("it spoke of a process that is not"));
        }
        if self
            .checks
            .as_ref()
            .is_some_and(|checks| checks.is(process))
        {
            self.hear_of_check(&message);
            return Ok(());
        }
        let Some(client) = self.watcher.of(process) else {
            return Ok(());
        };
        let (result, streams) = match message {
            FromGuest::Started { .. } => {
                client.tell(&Answer::Started, None);
                return Ok(());
            }
            FromGuest::Resting | FromGuest::Starved { .. } => {
                return Err(AgentError::Protocol("it told of memory out of turn"));
            }
            FromGuest::Failed {
                failure, message, ..
            } => {
                let failed = AgentError::Failed(message, failure).into_failure();
                (Err(failed), 0)
            }
            FromGuest::Exited {
                status, outputs, ..
            } => match client.role {
                Role::Exec { attached: true, .. } => (Ok(status), outputs),
                _ => (Ok(status), 0),
            },
        };
        let ended = Ended {
            result,
            ticks: [0; 3],
            report: None,
        };
        client.held = Some(Held {
            ended: Box::new(ended),
            streams,
            limit: Instant::now() + DRAIN_LIMIT,
        });
        client.tell_end(true);
        Ok(())
    }
}

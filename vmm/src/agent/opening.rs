//! The connections that a guest opens: its init's own, by which its machine becomes the container's, and the streams of processes.

use protocol::{AGENT_PORT, ENTROPY, FromHost, Hello, Opening, Renewal, Stream};
use rustix::io::Errno;

use super::{Agent, AgentError, Connection, Next, Output, Sink};
use crate::launch::Accepted;

/// Connections whose opening frame has not arrived yet. Guest init opens two for a process as a rule, but all of its processes may
/// begin to write at once.
pub(super) const MOST_PENDING: usize = 128;

impl Agent<'_> {
    /// Takes the next connection.
    pub(super) fn accept(&mut self) -> Result<(), AgentError> {
        match self.vmm.accept() {
            Ok(Some(accepted))
                if accepted.port == AGENT_PORT && self.pending.len() < MOST_PENDING =>
            {
                let Accepted {
                    stream, survived, ..
                } = accepted;
                let Ok(connection) = Connection::new(stream) else {
                    return Ok(());
                };
                match survived {
                    true => self.renew(connection),
                    false => {
                        self.pending.push(connection);
                        Ok(())
                    }
                }
            }
            // No other port is served, and nobody needs more connections: closing it says so.
            Ok(Some(_)) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            // The VMM's end; its report says more.
            Ok(None) | Err(_) => {
                self.channel_closed = true;
                Ok(())
            }
        }
    }

    /// Learns what a connection is for.
    pub(super) fn open(&mut self, index: usize) -> Result<(), AgentError> {
        let Some(connection) = self.pending.get_mut(index) else {
            return Ok(());
        };
        match connection.next::<Opening>() {
            Ok(Next::Message(opening)) => {
                let connection = self.pending.swap_remove(index);
                match opening {
                    Opening::Hello(hello) => self.greet(connection, &hello),
                    Opening::Attach(attach) => self.attach(connection, attach),
                }
            }
            Ok(Next::Incomplete) => Ok(()),
            Ok(Next::End) => {
                self.pending.swap_remove(index);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with a machine that was restored: it becomes another one than it was saved from, and runs the container.
    fn renew(&mut self, mut connection: Connection) -> Result<(), AgentError> {
        if self.control.is_some() {
            return Err(AgentError::Protocol("it had two control connections"));
        }
        // Its card's address comes with the container.
        connection.send(&FromHost::Renew(renewal(None)?))?;
        self.renewed = true;
        self.ask_to_run(connection)
    }

    fn greet(&mut self, connection: Connection, hello: &Hello) -> Result<(), AgentError> {
        // A machine that could not be restored after all boots, and its old connections are gone.
        if self.control.is_some() && !std::mem::take(&mut self.renewed) {
            return Err(AgentError::Protocol("it said hello twice"));
        }
        self.ticks = [hello.tsc_at_start, 0, 0];
        if self.is_copy {
            return self.renew_copy(connection);
        }
        self.booted = true;
        self.deadline = None;
        self.ask_to_run(connection)
    }

    /// Has a copy become another machine than it was saved from, and its container go on.
    fn renew_copy(&mut self, mut connection: Connection) -> Result<(), AgentError> {
        let network = self.task.container.network.as_ref();
        let mac = network.map(|network| network.mac.clone());
        connection.send(&FromHost::Renew(renewal(mac)?))?;
        self.renewed = true;
        self.control = Some(connection);
        self.listen()
    }

    fn ask_to_run(&mut self, mut connection: Connection) -> Result<(), AgentError> {
        connection.send(&match self.work.take() {
            Some(work) => FromHost::Work {
                process: self.task.process.id,
                work,
            },
            None => FromHost::Run {
                container: self.task.container.clone(),
                process: self.task.process.clone(),
            },
        })?;
        self.control = Some(connection);
        // What came along with the hello is in the decoder and would wake nobody.
        self.listen()
    }

    fn attach(
        &mut self,
        connection: Connection,
        attach: protocol::Attach,
    ) -> Result<(), AgentError> {
        let Connection { stream, decoder } = connection;
        if stream.set_nonblocking(false).is_err() {
            return Ok(());
        }
        let which = attach.stream;
        if attach.process != self.task.process.id {
            return self.attach_further(attach.process, which, stream, decoder.into_rest());
        }
        let has_stdin = self.task.process.stdin && self.stdin.is_none();
        match (which, self.fans.iter().find(|fan| fan.stream() == which)) {
            (Stream::Stdin, _) if has_stdin && self.task.process.terminal.is_none() => {
                self.give_stdin(stream);
            }
            (_, Some(fan)) if self.outputs.len() < self.fans.len() && !self.is_attached(which) => {
                let output = Output::new(Sink::Fan(fan.clone()), stream, decoder.into_rest())?;
                if which == Stream::Terminal
                    && has_stdin
                    && let Some(stream) = output.input()
                {
                    self.give_stdin(stream);
                }
                self.outputs.push(output);
            }
            _ => return Err(AgentError::Protocol("it attached a stream twice")),
        }
        Ok(())
    }

    fn is_attached(&self, which: Stream) -> bool {
        self.outputs.iter().any(|output| output.carries(which))
    }
}

/// Random bytes and the time, for one machine.
pub(crate) fn renewal(mac: Option<protocol::Bytes>) -> Result<Renewal, Errno> {
    let mut entropy = vec![0; ENTROPY];
    rustix::rand::getrandom(&mut entropy[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(Renewal {
        entropy: protocol::Bytes(entropy),
        time: crate::human::nanoseconds(),
        mac,
    })
}

//! Those who ask something of a running container: terminals that are attached, further processes, and who waits for its
//! end. One connection each; one that does not read is dropped.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use protocol::{FromGuest, FromHost, ProcessId, Stream};
use rustix::io::Errno;

use super::{Agent, AgentError, Output, Sink};
use crate::container::{Container, Status};
use crate::control::{Answer, Ended, Listener, Request, Socket};
use crate::{human, signal};

/// Connections at a time; more wait in the listener's queue.
const MOST: usize = 256;

/// Everybody who watches one run, and where the run is written down.
#[derive(Debug)]
pub(crate) struct Watcher<'a> {
    pub(crate) container: Option<&'a Container>,
    pub(crate) listener: Option<&'a Listener>,
    pub(crate) clients: &'a mut Vec<Client>,
    /// Whether one of them has told the first process to end.
    pub(crate) told: &'a mut bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    role: Role,
    gone: bool,
}

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing yet.
    Fresh,
    /// Its first process's start.
    Start,
    /// The first process's streams and end.
    Attached { stdin: bool, bound: bool },
    /// The first process's end.
    Waiting,
    /// A further process.
    Exec { process: ProcessId, attached: bool },
}

impl Client {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            role: Role::Fresh,
            gone: false,
        }
    }

    /// Whoever had the container started: is told of its end, whatever became of its first request.
    pub(crate) fn first(socket: Socket) -> Self {
        Self {
            role: Role::Start,
            ..Self::new(socket)
        }
    }

    /// Tells it; whoever does not take it is gone.
    fn tell(&mut self, answer: &Answer, descriptor: Option<BorrowedFd<'_>>) {
        self.gone |= self.socket.send(answer, descriptor).is_err();
    }

    /// The container has ended; whoever has one of its further processes is told the same.
    pub(crate) fn ended(mut self, ended: &Ended) {
        // A socket that is closed with something unread in it is reset, and then nobody hears what is said here.
        while let Ok(Some(_)) = self.socket.receive::<Request>(false) {}
        if self.role != Role::Fresh {
            self.tell(&Answer::Ended(Box::new(ended.clone())), None);
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Watcher<'_> {
    pub(super) fn accept(&mut self) {
        if let Some(listener) = self.listener
            && let Ok(socket) = listener.accept()
            && self.clients.len() < MOST
        {
            self.clients.push(Client::new(socket));
        }
    }

    pub(super) fn forget_the_gone(&mut self) {
        self.clients.retain(|client| !client.gone);
    }

    /// The first process runs, in this VMM.
    pub(super) fn started(&mut self, vmm: u32) {
        self.note(Status::Running, Some(vmm));
        for client in self.clients.iter_mut() {
            if matches!(client.role, Role::Start | Role::Attached { .. }) {
                client.tell(&Answer::Started, None);
            }
        }
    }

    fn note(&self, status: Status, vmm: Option<u32>) {
        let Some(container) = self.container else {
            return;
        };
        let mut state = container.state();
        state.status = status;
        if let Some(vmm) = vmm {
            (state.vmm, state.started) = (vmm, human::nanoseconds());
        }
        // A state that cannot be written is behind for a while; who asks the supervisor still learns the truth.
        let _ = container.set_state(&state);
    }

    fn of(&mut self, process: ProcessId) -> Option<&mut Client> {
        self.clients
            .iter_mut()
            .find(|client| matches!(client.role, Role::Exec { process: p, .. } if p == process))
    }
}

impl Agent<'_> {
    /// Hears what a client asks for, all of it.
    pub(super) fn serve_client(&mut self, index: usize) -> Result<(), AgentError> {
        while let Some(client) = self.watcher.clients.get_mut(index) {
            match client.socket.receive::<Request>(false) {
                Ok(Some((request, _))) => self.carry_out(index, request)?,
                Ok(None) => break,
                Err(_) => {
                    client.gone = true;
                    if matches!(client.role, Role::Attached { bound: true, .. })
                        && self.status.is_none()
                    {
                        return Err(AgentError::Abandoned);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, index: usize, request: Request) -> Result<(), AgentError> {
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return Ok(());
        };
        let subject = match client.role {
            Role::Exec { process, .. } => process,
            _ => self.task.process.id,
        };
        match request {
            Request::Attach { stdin, bound } => self.let_in(index, stdin, bound),
            Request::Start => {
                client.role = Role::Start;
                if self.started {
                    client.tell(&Answer::Started, None);
                }
            }
            Request::Wait => client.role = Role::Waiting,
            Request::Exec { process, attached } => self.exec(index, *process, attached)?,
            Request::Signal(signal) => {
                client.tell(&Answer::Done, None);
                let stop = self.watcher.container.map(|c| c.config.stop_signal);
                if subject == self.task.process.id
                    && (signal == signal::KILL || stop == Some(signal))
                {
                    *self.watcher.told = true;
                }
                self.signal(subject, signal)?;
            }
            Request::Resize(size) => {
                let process = subject;
                self.tell(&FromHost::Resize { process, size })?;
            }
            Request::Pause => self.freeze(index, true),
            Request::Unpause => self.freeze(index, false),
            Request::Destroy => {
                *self.watcher.told = true;
                return Err(AgentError::Destroyed);
            }
        }
        Ok(())
    }

    /// A detached terminal leaves the container as it is: it is bound no more.
    fn let_in(&mut self, index: usize, stdin: bool, bound: bool) {
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return;
        };
        if matches!(client.role, Role::Attached { .. }) {
            client.role = Role::Attached { stdin, bound };
            return;
        }
        client.role = Role::Attached { stdin, bound };
        for fan in &self.fans {
            let Ok((ours, theirs)) = UnixStream::pair() else {
                client.gone = true;
                return;
            };
            let which = fan.stream();
            client.tell(&Answer::Stream(which, Vec::new()), Some(theirs.as_fd()));
            let ended = (self.outputs.iter()).any(|o| o.carries(which) && o.is_done());
            if !ended {
                fan.attach(ours, bound);
            }
        }
        if let (true, Some(input)) = (stdin, &self.stdin) {
            client.tell(&Answer::Stdin, Some(input.as_fd()));
        }
        if self.started {
            client.tell(&Answer::Started, None);
        }
    }

    /// Gives the first process's standard input to all who want it.
    pub(super) fn give_stdin(&mut self, stream: UnixStream) {
        for client in self.watcher.clients.iter_mut() {
            if matches!(client.role, Role::Attached { stdin: true, .. }) {
                client.tell(&Answer::Stdin, Some(stream.as_fd()));
            }
        }
        self.stdin = Some(stream);
    }

    fn exec(
        &mut self,
        index: usize,
        mut process: protocol::Process,
        attached: bool,
    ) -> Result<(), AgentError> {
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return Ok(());
        };
        if !self.started || self.status.is_some() || client.role != Role::Fresh {
            client.tell(&Answer::Refused("it does not run".to_owned()), None);
            return Ok(());
        }
        self.last = ProcessId(self.last.0.wrapping_add(1));
        process.id = self.last;
        client.role = Role::Exec {
            process: self.last,
            attached,
        };
        self.tell(&FromHost::Exec { process })
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
            }
            _ if which != Stream::Stdin => {
                self.drains.push(Output::new(Sink::Nobody, stream, first));
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
        let Some(client) = self.watcher.of(process) else {
            return Ok(());
        };
        let ended = |result| {
            let ticks = [0; 3];
            Answer::Ended(Box::new(Ended {
                result,
                ticks,
                report: None,
            }))
        };
        let answer = match message {
            FromGuest::Started { .. } => Answer::Started,
            FromGuest::Failed {
                failure, message, ..
            } => ended(Err(AgentError::Failed(message, failure).into_failure())),
            FromGuest::Exited { status, .. } => ended(Ok(status)),
            FromGuest::Resting => return Ok(()),
        };
        client.tell(&answer, None);
        if matches!(answer, Answer::Ended(_)) {
            client.role = Role::Fresh;
        }
        Ok(())
    }

    fn freeze(&mut self, index: usize, freeze: bool) {
        let frozen = self.vmm.freeze(freeze);
        if frozen.is_ok() {
            let status = if freeze {
                Status::Paused
            } else {
                Status::Running
            };
            self.watcher.note(status, None);
        }
        let answer = match frozen {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Refused(Errno::to_string(&error)),
        };
        if let Some(client) = self.watcher.clients.get_mut(index) {
            client.tell(&answer, None);
        }
    }
}

//! Those who ask something of a running container: terminals that are attached, further processes, and who waits for its
//! end. One connection each; one that does not read is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use protocol::{Bounds, FromHost, ProcessId, Status as ProcessStatus};
use rustix::io::Errno;

use super::fan::Fan;
use super::{Agent, AgentError};
use crate::container::{Container, Status, events};
use crate::control::{Answer, Ended, Listener, Request, Socket};
use crate::{human, signal};

/// Connections at a time; more wait in the listener's queue.
const MOST: usize = 256;
/// How a process ends, begun or not, whose container's first one has ended: by SIGKILL.
const KILLED: ProcessStatus = ProcessStatus::Signal(9);

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
    pub(super) role: Role,
    /// Output streams of its further process that the guest has attached.
    pub(super) streams: u8,
    /// That process's end.
    pub(super) held: Option<Held>,
    gone: bool,
}

/// The end of a further process, which is told after so many streams, and when they are not waited for any more.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ended: Box<Ended>,
    pub(super) streams: u8,
    pub(super) limit: Instant,
}

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing yet.
    Fresh,
    /// Its first process's start.
    Start { bound: bool },
    /// The first process's streams and end.
    Attached { stdin: bool, bound: bool },
    /// The first process's end.
    Waiting,
    /// A snapshot that is being made.
    Saving,
    /// A further process.
    Exec { process: ProcessId, attached: bool },
}

impl Role {
    /// Whether the container ends with the connection.
    fn is_bound(self) -> bool {
        matches!(
            self,
            Self::Start { bound: true } | Self::Attached { bound: true, .. }
        )
    }
}

impl Client {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            role: Role::Fresh,
            streams: 0,
            held: None,
            gone: false,
        }
    }

    /// Whoever had the container started: is told of its end, whatever became of its first request.
    pub(crate) fn first(socket: Socket) -> Self {
        Self {
            role: Role::Start { bound: false },
            ..Self::new(socket)
        }
    }

    /// Tells it; whoever does not take it is gone.
    pub(super) fn tell(&mut self, answer: &Answer, descriptor: Option<BorrowedFd<'_>>) {
        self.gone |= self.socket.send(answer, descriptor).is_err();
    }

    /// Its further process has ended; tells so if all its streams are there, or are not waited for.
    pub(super) fn tell_end(&mut self, waits: bool) {
        let has_all = |held: &mut Held| self.streams >= held.streams || !waits;
        if let Some(held) = self.held.take_if(has_all) {
            self.tell(&Answer::Ended(held.ended), None);
            self.role = Role::Fresh;
        }
    }

    /// The container has ended, and its further processes with it. Gives what can be seen of the connection's own end.
    pub(crate) fn ended(mut self, ended: &Ended) -> Socket {
        // A socket that is closed with something unread in it is reset, and then nobody hears what is said here.
        while let Ok(Some(_)) = self.socket.receive::<Request>(false) {}
        self.tell_end(false);
        if self.role != Role::Fresh {
            let mut ended = ended.clone();
            if let (Role::Exec { .. }, Ok(status)) = (self.role, &mut ended.result) {
                *status = KILLED;
            }
            self.tell(&Answer::Ended(Box::new(ended)), None);
        }
        self.socket
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

    /// When the first end is told whose streams have not come.
    pub(super) fn due(&self) -> Option<Instant> {
        let held = self
            .clients
            .iter()
            .filter_map(|client| client.held.as_ref());
        held.map(|held| held.limit).min()
    }

    /// Tells the ends whose streams are not waited for any more.
    pub(super) fn tell_late_ends(&mut self) {
        let now = Instant::now();
        for client in self.clients.iter_mut() {
            if client.held.as_ref().is_some_and(|held| held.limit <= now) {
                client.tell_end(false);
            }
        }
    }

    pub(super) fn forget_the_gone(&mut self) {
        self.clients.retain(|client| !client.gone);
    }

    /// The first process runs, in this VMM.
    pub(super) fn started(&mut self, vmm: u32) {
        self.note(Status::Running, Some(vmm));
        self.happens("start", None);
        if let Some(path) = self.container.and_then(|c| c.config.pidfile.as_ref()) {
            // It could be made when the container was.
            let _ = std::fs::write(path, vmm.to_string());
        }
        for client in self.clients.iter_mut() {
            if matches!(client.role, Role::Start { .. } | Role::Attached { .. }) {
                client.tell(&Answer::Started, None);
            }
        }
    }

    /// The guest's kernel has killed a process for lack of memory.
    pub(super) fn starved(&self) {
        if let Some(container) = self.container {
            let mut state = container.state();
            state.oom_killed = true;
            let _ = container.set_state(&state);
        }
        self.happens("oom", None);
    }

    fn happens(&self, action: &str, more: Option<(&str, String)>) {
        if let Some(container) = self.container {
            events::note(container, action, more);
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

    pub(super) fn of(&mut self, process: ProcessId) -> Option<&mut Client> {
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
                Ok(Some((request, beside))) => self.carry_out(index, request, beside)?,
                Ok(None) => break,
                Err(_) => {
                    client.gone = true;
                    if client.role.is_bound() && self.status.is_none() {
                        return Err(AgentError::Abandoned);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        index: usize,
        request: Request,
        beside: Option<OwnedFd>,
    ) -> Result<(), AgentError> {
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return Ok(());
        };
        let subject = match client.role {
            Role::Exec { process, .. } => process,
            _ => self.task.process.id,
        };
        match request {
            Request::Greet => client.tell(&Answer::Done, None),
            Request::Attach { stdin, bound } => self.let_in(index, stdin, bound),
            Request::Start { bound } => {
                client.role = Role::Start { bound };
                if self.started {
                    client.tell(&Answer::Started, None);
                }
            }
            Request::Wait => client.role = Role::Waiting,
            Request::Exec { process, attached } => {
                let ask = |id| {
                    let process = protocol::Process { id, ..*process };
                    FromHost::Exec { process }
                };
                self.further(index, attached, ask)?;
            }
            Request::Work(work) => {
                let ask = |process| FromHost::Work { process, work };
                self.further(index, true, ask)?;
            }
            Request::Signal(signal) => {
                client.tell(&Answer::Done, None);
                if subject == self.task.process.id {
                    let signal = ("signal", signal.to_string());
                    self.watcher.happens("kill", Some(signal));
                }
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
            Request::Snapshot { live } => self.save(index, beside, live)?,
            Request::Pause => self.freeze(index, true),
            Request::Unpause => self.freeze(index, false),
            Request::Bound(bounds) => self.bound(index, bounds)?,
            Request::Destroy => {
                *self.watcher.told = true;
                return Err(AgentError::Destroyed);
            }
        }
        Ok(())
    }

    /// Bounds the container; what is as much as its machine has, or more, is no bound.
    fn bound(&mut self, index: usize, bounds: Bounds) -> Result<(), AgentError> {
        let stands_still = self.stands_still();
        let (Some(client), Some(container)) =
            (self.watcher.clients.get_mut(index), self.watcher.container)
        else {
            return Ok(());
        };
        if !self.started || self.status.is_some() || stands_still {
            let why = "its processes stand still, or have not begun";
            client.tell(&Answer::Refused(why.to_owned()), None);
            return Ok(());
        }
        // The supervisor's own, of the machine as it was started.
        let machine = &container.config.machine;
        let (memory, cpus) = (machine.memory.bytes(), machine.cpus.count());
        client.tell(&Answer::Bounded { memory, cpus }, None);
        let within = |wanted: Option<u64>, all| match wanted {
            Some(wanted) if wanted >= all => Some(u64::MAX),
            wanted => wanted,
        };
        self.tell(&FromHost::Bound(Bounds {
            memory: within(bounds.memory, memory),
            cpus: within(bounds.cpus, cpus.into()),
            pids: bounds.pids,
        }))
    }

    /// Who is attached already is so in another way from now on, and hears when that is so: whose terminal is taken away
    /// leaves the container as it is.
    fn let_in(&mut self, index: usize, stdin: bool, bound: bool) {
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return;
        };
        if matches!(client.role, Role::Attached { .. }) {
            client.role = Role::Attached { stdin, bound };
            if !bound {
                self.fans.iter().for_each(Fan::release);
            }
            client.tell(&Answer::Released, None);
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

    fn freeze(&mut self, index: usize, freeze: bool) {
        let frozen = match self.saving {
            Some(_) => Err(Errno::BUSY),
            None => self.vmm.freeze(freeze),
        };
        if frozen.is_ok() {
            let status = if freeze {
                Status::Paused
            } else {
                Status::Running
            };
            self.watcher.note(status, None);
            let action = if freeze { "pause" } else { "unpause" };
            self.watcher.happens(action, None);
            self.put_checks_off(freeze);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_further_process_hears_that_it_was_killed_and_not_how_the_first_one_ended() {
        let told = |role| {
            let (ours, theirs) = Socket::pair().unwrap();
            let client = Client {
                role,
                ..Client::new(theirs)
            };
            client.ended(&Ended {
                result: Ok(ProcessStatus::Code(0)),
                ticks: [0; 3],
                report: None,
            });
            match ours.receive(true).unwrap() {
                Some((Answer::Ended(ended), None)) => ended.result.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let exec = Role::Exec {
            process: ProcessId(2),
            attached: true,
        };
        assert_eq!(told(exec), ProcessStatus::Signal(9));
        assert_eq!(told(Role::Waiting), ProcessStatus::Code(0));
    }
}

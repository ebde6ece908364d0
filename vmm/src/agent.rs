//! The host's end of the agent protocol: furnishes one container through guest
//! init, passes its streams and signals, and tells how it ended. Everything the
//! guest says is taken for hostile: bounded, timed, escaped before it is shown.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use protocol::{
    AGENT_PORT, Container, Decoder, FrameError, FromGuest, FromHost, Hello, Opening, Process,
    Status, Stream,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::launch::{Died, Vmm};
use crate::machine::report::End;
use crate::terminal;

mod signals;
mod streams;

pub(crate) use signals::Signals;
use streams::{Output, serve_stdin};

/// From the start of the VMM to guest init's first word: a boot takes tens of
/// milliseconds, on an emulated processor seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });
/// How long the streams of a process that has exited may stay open without a byte.
const DRAIN_LIMIT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
/// Connections whose opening frame has not arrived yet. Guest init opens four at most.
const MOST_PENDING: usize = 8;
/// As docker: so many SIGINT or SIGTERM end hull whatever the workload does.
const FORCED_AFTER: u32 = 3;

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) container: Container,
    pub(crate) process: Process,
}

/// How the workload ended and when it passed which point.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// The guest's time stamp counter when init started, the workload started, and it ended.
    pub(crate) ticks: [u64; 3],
}

/// Why there is no exit status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("The guest did not answer within {} seconds", BOOT_LIMIT.as_secs())]
    Silent,
    #[error("{0}")]
    Failed(String, protocol::Failure),
    #[error("{}", ended(.0))]
    Ended(End),
    #[error("The VMM process died before the command ended{}", died(.0))]
    Died(Option<ExitStatus>),
    #[error("The guest broke the agent protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("Waiting for the guest failed")]
    Wait(#[from] Errno),
    #[error("Ended by {FORCED_AFTER} signals")]
    Forced(u8),
}

fn died(status: &Option<ExitStatus>) -> String {
    status.map_or(String::new(), |status| format!(" ({status})"))
}

fn ended(end: &End) -> String {
    match end {
        End::Orderly => "The guest reset itself before the command ended".to_owned(),
        End::Panic { message } => format!("The guest's kernel panicked: {message}"),
        End::TripleFault => "The guest's processor gave up (triple fault)".to_owned(),
        End::HungUp => "The virtual machine was stopped from outside".to_owned(),
        End::Emulation { reason } => reason.clone(),
        End::Failed { cause } => format!("The VMM failed: {cause}"),
    }
}

/// One run, from the VMM's start to the workload's end.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    vmm: &'a mut Vmm,
    signals: Signals,
    task: Task,
    pending: Vec<Connection>,
    control: Option<Connection>,
    outputs: Vec<Output>,
    stdin_taken: bool,
    started: bool,
    /// Signals that came before the workload ran.
    waiting: Vec<u8>,
    insistence: u32,
    channel_closed: bool,
    /// Outputs that have not come by now are not waited for any more.
    gave_up: bool,
    /// When patience with the guest ends, if it does.
    deadline: Option<Instant>,
    status: Option<Status>,
    ticks: [u64; 3],
}

/// A connection and the bytes of it that are no whole frame yet.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

/// What a turn of the loop waits for, in the order in which it is served: the
/// report last, so that what the guest said before its end is heard first.
enum Source {
    Signals,
    Channel,
    Pending(usize),
    Control,
    Output(usize),
    Report,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(vmm: &'a mut Vmm, task: Task, signals: Signals) -> Self {
        Self {
            vmm,
            signals,
            task,
            pending: Vec::new(),
            control: None,
            outputs: Vec::new(),
            stdin_taken: false,
            started: false,
            waiting: Vec::new(),
            insistence: 0,
            channel_closed: false,
            gave_up: false,
            deadline: Some(Instant::now() + BOOT_LIMIT),
            status: None,
            ticks: [0; 3],
        }
    }

    /// Serves the guest until its workload has ended and all its output is written.
    pub(crate) fn run(mut self) -> Result<Outcome, AgentError> {
        loop {
            if let Some(status) = self.status
                && self.has_all_output()
            {
                let ticks = self.ticks;
                return Ok(Outcome { status, ticks });
            }
            let ready = self.wait()?;
            self.serve(&ready)?;
            if self.deadline.is_some_and(|limit| Instant::now() >= limit) {
                self.lose_patience()?;
            }
        }
    }

    /// A process that ran has two outputs, whose connections may arrive after word of its end.
    fn has_all_output(&self) -> bool {
        (self.outputs.len() == self.streams().len() || !self.started || self.gave_up)
            && self.outputs.iter().all(Output::is_done)
    }

    /// The output streams that the process has.
    fn streams(&self) -> &'static [Stream] {
        match self.task.process.terminal {
            Some(_) => &[Stream::Terminal],
            None => &[Stream::Stdout, Stream::Stderr],
        }
    }

    fn lose_patience(&mut self) -> Result<(), AgentError> {
        if self.status.is_none() {
            return Err(if self.ticks[0] == 0 {
                AgentError::Silent
            } else {
                AgentError::Protocol("it closed its connection and went on")
            });
        }
        self.gave_up = true;
        for output in &mut self.outputs {
            output.give_up_when_idle();
        }
        self.deadline = Some(Instant::now() + DRAIN_LIMIT);
        Ok(())
    }

    fn wait(&self) -> Result<Vec<Source>, Errno> {
        let mut sources = vec![Source::Signals];
        if !self.channel_closed {
            sources.push(Source::Channel);
        }
        sources.extend((0..self.pending.len()).map(Source::Pending));
        if self.control.is_some() {
            sources.push(Source::Control);
        }
        let open = self
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, output)| !output.is_done());
        sources.extend(open.map(|(index, _)| Source::Output(index)));
        if self.status.is_none() {
            sources.push(Source::Report);
        }
        let mut descriptors: Vec<PollFd<'_>> = sources
            .iter()
            .filter_map(|source| self.descriptor(source))
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let timeout = self.deadline.and_then(|limit| {
            Timespec::try_from(limit.saturating_duration_since(Instant::now())).ok()
        });
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let ready = descriptors
            .iter()
            .map(|descriptor| !descriptor.revents().is_empty());
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect())
    }

    fn descriptor(&self, source: &Source) -> Option<BorrowedFd<'_>> {
        Some(match source {
            Source::Signals => self.signals.as_fd(),
            Source::Channel => self.vmm.channel_fd(),
            Source::Pending(index) => self.pending.get(*index)?.stream.as_fd(),
            Source::Control => self.control.as_ref()?.stream.as_fd(),
            Source::Output(index) => self.outputs.get(*index)?.as_fd(),
            Source::Report => self.vmm.report_fd(),
        })
    }

    fn serve(&mut self, ready: &[Source]) -> Result<(), AgentError> {
        let guest_spoke = ready.iter().any(|source| {
            matches!(
                source,
                Source::Channel | Source::Pending(_) | Source::Control
            )
        });
        let report = ready.iter().any(|source| matches!(source, Source::Report));
        // From the back, so that an index stays what it was while connections are taken out.
        for source in ready.iter().rev() {
            match source {
                Source::Signals => self.pass_signals()?,
                Source::Channel => self.accept()?,
                Source::Pending(index) => self.open(*index)?,
                Source::Control => self.listen()?,
                Source::Output(index) => {
                    if let Some(output) = self.outputs.get_mut(*index) {
                        output.serve();
                    }
                }
                Source::Report => {}
            }
        }
        if report && !guest_spoke && self.status.is_none() {
            return Err(match self.vmm.report() {
                Ok(report) => AgentError::Ended(report.end),
                Err(Died(status)) => AgentError::Died(status),
            });
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), AgentError> {
        match self.vmm.accept() {
            Ok(Some((AGENT_PORT, stream))) if self.pending.len() < MOST_PENDING => {
                if stream.set_nonblocking(true).is_ok() {
                    let decoder = Decoder::new();
                    self.pending.push(Connection { stream, decoder });
                }
                Ok(())
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

    fn open(&mut self, index: usize) -> Result<(), AgentError> {
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

    fn greet(&mut self, mut connection: Connection, hello: &Hello) -> Result<(), AgentError> {
        if self.control.is_some() {
            return Err(AgentError::Protocol("it said hello twice"));
        }
        self.ticks = [hello.tsc_at_start, 0, 0];
        connection.send(&FromHost::Run {
            container: self.task.container.clone(),
            process: self.task.process.clone(),
        })?;
        self.control = Some(connection);
        self.deadline = None;
        // What came along with the hello is in the decoder and would wake nobody.
        self.listen()
    }

    fn attach(
        &mut self,
        connection: Connection,
        attach: protocol::Attach,
    ) -> Result<(), AgentError> {
        if attach.process != self.task.process.id {
            return Err(AgentError::Protocol(
                "it attached a stream of a process that is not",
            ));
        }
        let Connection { stream, decoder } = connection;
        if stream.set_nonblocking(false).is_err() {
            return Ok(());
        }
        match attach.stream {
            Stream::Stdin if self.takes_stdin() && self.task.process.terminal.is_none() => {
                self.stdin_taken = true;
                serve_stdin(stream);
            }
            which
                if self.streams().contains(&which)
                    && self.outputs.iter().all(|output| output.stream() != which) =>
            {
                if which == Stream::Terminal && self.takes_stdin() {
                    self.stdin_taken = true;
                    if let Ok(stream) = stream.try_clone() {
                        serve_stdin(stream);
                    }
                }
                let output = Output::new(which, stream, decoder.into_rest());
                self.outputs.push(output);
            }
            _ => return Err(AgentError::Protocol("it attached a stream twice")),
        }
        Ok(())
    }

    fn takes_stdin(&self) -> bool {
        self.task.process.stdin && !self.stdin_taken
    }

    fn listen(&mut self) -> Result<(), AgentError> {
        while let Some(control) = &mut self.control {
            match control.next::<FromGuest>()? {
                Next::Message(message) => self.hear(message)?,
                Next::Incomplete => break,
                Next::End => {
                    self.control = None;
                    self.deadline = Some(Instant::now() + DRAIN_LIMIT);
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, message: FromGuest) -> Result<(), AgentError> {
        match message {
            FromGuest::Started { process, tsc } if process == self.task.process.id => {
                self.started = true;
                self.ticks[1] = tsc;
                for signal in std::mem::take(&mut self.waiting) {
                    self.signal(signal)?;
                }
                Ok(())
            }
            FromGuest::Failed {
                process,
                failure,
                message,
            } if process == self.task.process.id => Err(AgentError::Failed(message, failure)),
            FromGuest::Exited {
                process,
                status,
                tsc,
            } if process == self.task.process.id => {
                self.ticks[2] = tsc;
                self.status = Some(status);
                self.deadline = Some(Instant::now() + DRAIN_LIMIT);
                Ok(())
            }
            _ => Err(AgentError::Protocol("it spoke of a process that is not")),
        }
    }

    fn pass_signals(&mut self) -> Result<(), AgentError> {
        for signal in self.signals.take() {
            if signals::tells_of_window(signal) {
                self.resize()?;
                continue;
            }
            if signals::asks_to_end(signal) {
                self.insistence += 1;
                if self.insistence >= FORCED_AFTER {
                    return Err(AgentError::Forced(signal));
                }
            }
            if self.started {
                self.signal(signal)?;
            } else {
                self.waiting.push(signal);
            }
        }
        Ok(())
    }

    /// A window that changed before the command ran has its size from the start or with the next change.
    fn resize(&mut self) -> Result<(), AgentError> {
        let process = self.task.process.id;
        let size = terminal::window();
        match &mut self.control {
            Some(control) if self.started && self.task.process.terminal.is_some() => {
                Ok(control.send(&FromHost::Resize { process, size })?)
            }
            _ => Ok(()),
        }
    }

    fn signal(&mut self, signal: u8) -> Result<(), AgentError> {
        let process = self.task.process.id;
        match &mut self.control {
            Some(control) => Ok(control.send(&FromHost::Signal { process, signal })?),
            None => Ok(()),
        }
    }
}

/// What a connection has to give.
enum Next<M> {
    Message(M),
    Incomplete,
    End,
}

impl Connection {
    /// The next whole message, reading no more than is there.
    fn next<M: protocol::Message>(&mut self) -> Result<Next<M>, FrameError> {
        loop {
            if let Some(message) = self.decoder.take()? {
                return Ok(Next::Message(message));
            }
            let mut bytes = [0; 4096];
            match std::io::Read::read(&mut self.stream, &mut bytes) {
                Ok(0) => return Ok(Next::End),
                Ok(count) => self.decoder.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Next::Incomplete);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(Next::End);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&mut self, message: &FromHost) -> Result<(), FrameError> {
        // A guest that does not read its control connection may not hold up the host.
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(DRAIN_LIMIT))?;
        let sent = protocol::write(&mut self.stream, message);
        self.stream.set_nonblocking(true)?;
        match sent {
            // It has closed its end; what it said before is still to be read, and the end after it.
            Err(FrameError::Connection(_)) => Ok(()),
            sent => sent,
        }
    }
}

#[cfg(test)]
mod tests;

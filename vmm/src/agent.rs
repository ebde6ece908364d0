//! The host's end of the agent protocol: furnishes one container through guest init, passes its streams and signals,
//! serves those who ask something of it, and tells how it ended. Everything the guest says is taken for hostile: bounded,
//! timed, escaped before it is shown.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use protocol::{Container, FromGuest, FromHost, Process, ProcessId, Status, Stream, Work};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::launch::Vmm;
use crate::resolving::Following;
use crate::vmm::Word;

mod clients;
mod connection;
mod ending;
mod fan;
mod further;
mod health;
mod opening;
mod ready;
mod saving;
mod signals;
mod streams;

pub(crate) use clients::{Client, Watcher};
pub(crate) use connection::{Connection, Next};
pub(crate) use ending::{AgentError, Outcome};
use fan::Fan;
pub(crate) use fan::SharedLog;
use health::Checks;
pub(crate) use opening::renewal;
pub(crate) use ready::ready;
use saving::Saving;
pub(crate) use signals::{Signals, asks_to_end, tells_of_window};
pub(crate) use streams::{Output, Sink, serve_stdin};

/// From the start of the VMM to guest init's first word: a boot takes tens of milliseconds, on an emulated processor seconds, and
/// beside forty others there a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 180 });
/// How long the streams of a process that has exited may stay open without a byte.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });

/// What is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) container: Container,
    pub(crate) process: Process,
}

/// One run, from the VMM's start to the workload's end.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    vmm: &'a mut Vmm,
    signals: &'a mut Signals,
    task: Task,
    /// What guest init is to do instead of the task.
    work: Option<Work>,
    watcher: Watcher<'a>,
    pending: Vec<Connection>,
    control: Option<Connection>,
    /// The first process's output: where it goes, and where it comes from once the guest has connected it.
    fans: Vec<Fan>,
    outputs: Vec<Output>,
    /// How many of them the guest has made, by its own word: known at the end.
    told: usize,
    /// The first process's standard input, for those who are attached.
    stdin: Option<UnixStream>,
    /// Output that nobody wants, of further processes.
    drains: Vec<Output>,
    /// The last number given to a process.
    last: ProcessId,
    started: bool,
    /// The guest said hello: it was not restored.
    booted: bool,
    /// The control connection is one of a saved machine's, and nothing has come from it yet.
    renewed: bool,
    /// Signals that came before the workload ran.
    waiting: Vec<u8>,
    channel_closed: bool,
    /// Outputs that have not come by now are not waited for any more.
    gave_up: bool,
    /// When patience with the guest ends, if it does.
    deadline: Option<Instant>,
    status: Option<Status>,
    /// Checks of its health, once it runs, if any are asked for.
    checks: Option<Checks>,
    /// The machine stands still.
    frozen: bool,
    /// A snapshot that is being made.
    saving: Option<Saving>,
    /// Guest init was told to stop the container, and has not said that it did.
    owes_rest: bool,
    /// The machine is a copy of one in which the container ran.
    is_copy: bool,
    /// What its network asks how names are resolved.
    following: Option<Following>,
    ticks: [u64; 3],
}

/// What a turn of the loop waits for, in the order in which it is served: the
/// report last, so that what the guest said before its end is heard first.
enum Source {
    Signals,
    Listener,
    Client(usize),
    Channel,
    Pending(usize),
    Control,
    Output(usize),
    Drain(usize),
    /// A disk that is being copied.
    Copying,
    Following,
    Report,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(
        vmm: &'a mut Vmm,
        task: Task,
        signals: &'a mut Signals,
        watcher: Watcher<'a>,
        log: &SharedLog,
    ) -> Self {
        let streams: &[Stream] = match task.process.terminal {
            Some(_) => &[Stream::Terminal],
            None => &[Stream::Stdout, Stream::Stderr],
        };
        let fan = |stream: &Stream| Fan::new(*stream, log.clone());
        Self {
            vmm,
            signals,
            watcher,
            pending: Vec::new(),
            control: None,
            fans: streams.iter().map(fan).collect(),
            outputs: Vec::new(),
            told: 0,
            stdin: None,
            drains: Vec::new(),
            last: task.process.id,
            task,
            work: None,
            started: false,
            booted: false,
            renewed: false,
            waiting: Vec::new(),
            channel_closed: false,
            gave_up: false,
            deadline: Some(Instant::now() + BOOT_LIMIT),
            status: None,
            checks: None,
            frozen: false,
            saving: None,
            owes_rest: false,
            is_copy: false,
            following: None,
            ticks: [0; 3],
        }
    }

    /// Guest init does this, instead of the task, whose process lends it number and streams.
    pub(crate) fn of_work(mut self, work: Work) -> Self {
        self.work = Some(work);
        self
    }

    /// The container runs already: the machine is a copy of one that was saved.
    pub(crate) fn of_copy(mut self) -> Self {
        self.is_copy = true;
        self
    }

    /// The machine's network may ask how names are resolved.
    pub(crate) fn following(mut self, following: Option<Following>) -> Self {
        self.following = following;
        self
    }

    /// Serves the guest until its workload has ended and all its output is written.
    pub(crate) fn run(mut self) -> Result<Outcome, AgentError> {
        // Who was there before the guest misses nothing of it.
        for index in 0..self.watcher.clients.len() {
            self.serve_client(index)?;
        }
        loop {
            if let Some(status) = self.status
                && self.has_all_output()
            {
                let ticks = self.ticks;
                let booted = self.booted;
                return Ok(Outcome {
                    status,
                    ticks,
                    booted,
                });
            }
            let ready = self.wait()?;
            self.serve(&ready)?;
            self.watcher.tell_late_ends();
            self.watcher.forget_the_gone();
            if self.deadline.is_some_and(|limit| Instant::now() >= limit) {
                self.lose_patience()?;
            }
            self.go_on_checking()?;
            self.go_on_saving()?;
        }
    }

    /// The connections of its outputs may arrive after word of its end.
    fn has_all_output(&self) -> bool {
        (self.outputs.len() >= self.told || self.gave_up)
            && self.outputs.iter().all(Output::is_done)
    }

    fn lose_patience(&mut self) -> Result<(), AgentError> {
        if self.status.is_none() {
            return Err(if self.renewed || self.ticks[0] == 0 {
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
        let mut sources = vec![Source::Signals, Source::Listener];
        sources.extend((0..self.watcher.clients.len()).map(Source::Client));
        if !self.channel_closed {
            sources.push(Source::Channel);
        }
        sources.extend((0..self.pending.len()).map(Source::Pending));
        if self.control.is_some() {
            sources.push(Source::Control);
        }
        let open = |outputs: &[Output]| -> Vec<usize> {
            let open = outputs.iter().enumerate();
            open.filter(|(_, output)| !output.is_done())
                .map(|(index, _)| index)
                .collect()
        };
        sources.extend(open(&self.outputs).into_iter().map(Source::Output));
        sources.extend(open(&self.drains).into_iter().map(Source::Drain));
        sources.extend([Source::Copying, Source::Following]);
        if self.status.is_none() {
            sources.push(Source::Report);
        }
        let described = sources.into_iter().filter_map(|source| {
            let descriptor = self.descriptor(&source)?;
            Some((source, descriptor))
        });
        let checks = self.checks.as_ref();
        let checks = checks.filter(|_| self.status.is_none() && !self.stands_still());
        let due = self.deadline.into_iter().chain(self.watcher.due());
        let due = due.chain(self.saving_due());
        let due = due.chain(checks.map(Checks::due));
        ready(described.collect(), due.min())
    }

    fn descriptor(&self, source: &Source) -> Option<BorrowedFd<'_>> {
        Some(match source {
            Source::Signals => self.signals.as_fd(),
            Source::Listener => self.watcher.listener?.as_fd(),
            Source::Client(index) => self.watcher.clients.get(*index)?.as_fd(),
            Source::Channel => self.vmm.channel_fd(),
            Source::Pending(index) => self.pending.get(*index)?.stream.as_fd(),
            Source::Control => self.control.as_ref()?.stream.as_fd(),
            Source::Output(index) => self.outputs.get(*index)?.as_fd(),
            Source::Drain(index) => self.drains.get(*index)?.as_fd(),
            Source::Copying => self.copying()?,
            Source::Following => self.following.as_ref()?.as_fd(),
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
                Source::Listener => self.watcher.accept(),
                Source::Client(index) => self.serve_client(*index)?,
                Source::Channel => self.accept()?,
                Source::Pending(index) => self.open(*index)?,
                Source::Control => self.listen()?,
                Source::Output(index) => {
                    if let Some(output) = self.outputs.get_mut(*index) {
                        output.serve()?;
                    }
                }
                Source::Drain(index) => {
                    if let Some(output) = self.drains.get_mut(*index) {
                        // Nobody wants it: it is no reason to end the others.
                        let _ = output.serve();
                    }
                }
                Source::Copying => self.copied()?,
                Source::Following => {
                    self.following.take_if(|asked| !asked.answer());
                }
                Source::Report => {}
            }
        }
        self.drains.retain(|output| !output.is_done());
        if report && !guest_spoke && self.status.is_none() {
            return match self.vmm.word() {
                Ok(Word::Held(written)) => self.held(written),
                Ok(Word::Written(written)) => {
                    self.written(written);
                    Ok(())
                }
                Ok(Word::Report(report)) => Err(AgentError::Ended(report.end)),
                Err(died) => Err(AgentError::Died(died)),
            };
        }
        Ok(())
    }

    /// Whether nothing happens in the container for now.
    fn stands_still(&self) -> bool {
        self.frozen || self.is_held()
    }

    /// Whether nothing happens in it for a snapshot's sake.
    fn is_held(&self) -> bool {
        self.saving.as_ref().is_some_and(Saving::holds)
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
        if std::mem::take(&mut self.renewed) {
            self.deadline = None;
        }
        if message == FromGuest::Resting {
            return self.rested();
        }
        let (FromGuest::Starved { process }
        | FromGuest::Started { process, .. }
        | FromGuest::Failed { process, .. }
        | FromGuest::Exited { process, .. }) = message
        else {
            return Ok(());
        };
        if process != self.task.process.id {
            return self.hear_of_further(process, message);
        }
        match message {
            FromGuest::Started { tsc, .. } => {
                self.started = true;
                self.ticks[1] = tsc;
                self.watcher.started(self.vmm.id());
                self.begin_checks();
                for signal in std::mem::take(&mut self.waiting) {
                    self.signal(process, signal)?;
                }
                Ok(())
            }
            FromGuest::Starved { .. } => {
                self.watcher.starved();
                Ok(())
            }
            FromGuest::Failed {
                failure, message, ..
            } => Err(AgentError::Failed(message, failure)),
            FromGuest::Exited {
                status,
                tsc,
                outputs,
                ..
            } => {
                self.ticks[2] = tsc;
                self.told = outputs.into();
                self.status = Some(status);
                self.deadline = Some(Instant::now() + DRAIN_LIMIT);
                Ok(())
            }
            FromGuest::Resting => Ok(()),
        }
    }

    fn pass_signals(&mut self) -> Result<(), AgentError> {
        for signal in self.signals.take() {
            if !tells_of_window(signal) {
                self.signal(self.task.process.id, signal)?;
            }
        }
        Ok(())
    }

    /// Sends a signal to a process; to the first one as soon as it runs.
    fn signal(&mut self, process: ProcessId, signal: u8) -> Result<(), AgentError> {
        if !self.started {
            self.waiting.push(signal);
            return Ok(());
        }
        self.tell(&FromHost::Signal { process, signal })
    }

    fn tell(&mut self, message: &FromHost) -> Result<(), AgentError> {
        match &mut self.control {
            Some(control) => Ok(control.send(message)?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

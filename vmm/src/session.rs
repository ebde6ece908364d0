//! A user's end of a process in a container: its streams, signals and window, until it ends or the user leaves it alone.
//! Knows the supervisor's socket and nothing behind it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use protocol::Status;
use rustix::io::Errno;

use crate::agent::{
    DRAIN_LIMIT, Output, Signals, Sink, asks_to_end, ready, serve_stdin, tells_of_window,
};
use crate::control::{Answer, ControlError, Ended, Request, Socket};
use crate::failure::Failure;
use crate::terminal::{self, Keys, Raw, Watch};

/// As docker: so many SIGINT or SIGTERM end hull whatever the workload does.
const FORCED_AFTER: u32 = 3;

/// How long a guest that runs may take to start a further process.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(20);

/// How a user takes part.
#[derive(Debug)]
pub(crate) struct Part {
    /// The process has a terminal.
    pub(crate) tty: bool,
    /// What takes the user's terminal away from it.
    pub(crate) detach_keys: Keys,
    /// Standard input is passed on.
    pub(crate) stdin: bool,
    /// The end of standard input is passed on too.
    pub(crate) once: bool,
    /// Signals are passed on.
    pub(crate) signals: bool,
    /// The guest has just been asked to start the process, and does it at once or never.
    pub(crate) fresh: bool,
    /// It is the container's first process, which lives as long as this session does, unless it is detached.
    pub(crate) bound: bool,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Left {
    /// The process ended.
    Ended(Box<Ended>),
    /// The user typed the detach keys.
    Detached,
}

/// A session that goes on.
#[derive(Debug)]
struct Session<'a> {
    socket: &'a Socket,
    part: Part,
    signals: Option<Signals>,
    outputs: Vec<Output>,
    insistence: u32,
    /// Reads as ready when the detach keys were typed; its other end is the thread's that reads them.
    detached: Option<UnixStream>,
    keys: Option<(UnixStream, Watch)>,
    ended: Option<Box<Ended>>,
    deadline: Option<Instant>,
}

/// What a turn waits for.
enum Source {
    Socket,
    Signals,
    Keys,
    Output(usize),
}

/// Takes part until the process ends. What is to be asked of the supervisor first has been asked.
pub(crate) fn run(socket: &Socket, part: Part) -> Result<Left, Failure> {
    if part.tty && part.stdin && !terminal::on_stdin() {
        return Err(not_a_terminal());
    }
    let signals = (part.signals || part.tty)
        .then(Signals::catch)
        .transpose()?;
    let raw = (part.tty && part.stdin).then(Raw::enter).transpose()?;
    let (detached, keys) = match raw {
        Some(_) => {
            let (ours, theirs) = UnixStream::pair()?;
            let watch = Watch::new(part.detach_keys.clone());
            (Some(ours), Some((theirs, watch)))
        }
        None => (None, None),
    };
    let deadline = part.fresh.then(|| Instant::now() + START_LIMIT);
    let mut session = Session {
        socket,
        part,
        signals,
        outputs: Vec::new(),
        insistence: 0,
        detached,
        keys,
        ended: None,
        deadline,
    };
    let left = session.last();
    drop(raw);
    left
}

/// Standard input is to be a terminal, and is none.
pub(crate) fn not_a_terminal() -> Failure {
    Failure::new("Standard input is not a terminal")
        .hint("Leave -t out to pass it to the command as it is.")
}

impl Session<'_> {
    fn last(&mut self) -> Result<Left, Failure> {
        loop {
            if self.ended.is_some()
                && self.outputs.iter().all(Output::is_done)
                && let Some(ended) = self.ended.take()
            {
                return Ok(Left::Ended(ended));
            }
            for source in self.wait()? {
                match source {
                    Source::Socket => self.listen()?,
                    Source::Signals => self.pass_signals()?,
                    Source::Keys => {
                        if self.part.bound {
                            self.leave()?;
                        }
                        return Ok(Left::Detached);
                    }
                    Source::Output(index) => {
                        if let Some(output) = self.outputs.get_mut(index) {
                            output.serve()?;
                        }
                    }
                }
            }
            if self.deadline.is_some_and(|limit| Instant::now() >= limit) {
                if self.ended.is_none() {
                    return Err(Failure::new("The guest does not answer"));
                }
                self.outputs.iter_mut().for_each(Output::give_up_when_idle);
                self.deadline = Some(Instant::now() + DRAIN_LIMIT);
            }
        }
    }

    /// Makes sure that the container does not end with this session.
    fn leave(&self) -> Result<(), Failure> {
        let (stdin, bound) = (false, false);
        self.ask(&Request::Attach { stdin, bound })?;
        loop {
            match self.socket.receive::<Answer>(true) {
                // Or the process has ended by itself.
                Ok(Some((Answer::Released | Answer::Ended(_), _))) | Err(ControlError::Closed) => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&self) -> Result<Vec<Source>, Errno> {
        let mut list: Vec<(Source, BorrowedFd<'_>)> = Vec::new();
        if self.ended.is_none() {
            list.push((Source::Socket, self.socket.as_fd()));
        }
        if let Some(signals) = &self.signals {
            list.push((Source::Signals, signals.as_fd()));
        }
        if let Some(keys) = &self.detached {
            list.push((Source::Keys, keys.as_fd()));
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if !output.is_done() {
                list.push((Source::Output(index), output.as_fd()));
            }
        }
        ready(list, self.deadline)
    }

    fn listen(&mut self) -> Result<(), Failure> {
        let (answer, descriptor) = match self.socket.receive::<Answer>(false) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(()),
            Err(error @ ControlError::Closed) => {
                return Err(
                    Failure::new(error).hint("`hull inspect` says what is known of its end.")
                );
            }
            Err(error) => return Err(error.into()),
        };
        if self.ended.is_none() {
            self.deadline = None;
        }
        match (answer, descriptor) {
            (Answer::Stream(which, first), Some(descriptor)) => {
                let output = Output::new(Sink::Own(which), descriptor.into(), first)?;
                self.outputs.push(output);
            }
            (Answer::Stdin, Some(descriptor)) => self.pass_stdin(descriptor.into())?,
            // The window may have changed before there was a process to tell.
            (Answer::Started, _) if self.part.tty => self.resize()?,
            (Answer::Refused(why), _) => return Err(Failure::new(why)),
            (Answer::Ended(ended), _) => {
                self.ended = Some(ended);
                self.deadline = Some(Instant::now() + DRAIN_LIMIT);
            }
            _ => {}
        }
        Ok(())
    }

    fn pass_stdin(&mut self, stream: UnixStream) -> io::Result<()> {
        match self.part.stdin {
            true => serve_stdin(stream, self.part.once, self.keys.take()),
            false => Ok(()),
        }
    }

    fn pass_signals(&mut self) -> Result<(), Failure> {
        let signals = self.signals.as_mut().map(Signals::take);
        for signal in signals.unwrap_or_default() {
            if tells_of_window(signal) {
                if self.part.tty {
                    self.resize()?;
                }
                continue;
            }
            if asks_to_end(signal) {
                self.insistence += 1;
                if self.insistence >= FORCED_AFTER || !self.part.signals {
                    let text = format!("Ended by {} signals", self.insistence);
                    return Err(Failure::new(text).code(signal.saturating_add(128)));
                }
            }
            self.ask(&Request::Signal(signal))?;
        }
        Ok(())
    }

    fn resize(&self) -> Result<(), Failure> {
        self.ask(&Request::Resize(terminal::window()))
    }

    /// A supervisor that has gone has left its last word in the socket, which is read in turn.
    fn ask(&self, request: &Request) -> Result<(), Failure> {
        match self.socket.send(request, None) {
            Err(ControlError::Socket(Errno::PIPE | Errno::CONNRESET)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The exit code of a process that ended so.
pub(crate) fn exit_code(status: Status) -> u8 {
    match status {
        Status::Code(code) => code,
        Status::Signal(signal) => signal.saturating_add(128),
    }
}

//! One loop over the control connection, the children and their streams, from the first process's start to the
//! machine's end. Never waits but in epoll. Knows no mount.

mod ending;
mod rest;

use alloc::vec::Vec;

use protocol::{Attach, FromGuest, FromHost, Process, ProcessId, Status, Stream, WindowSize, Work};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::WaitOptions;

use crate::failure::{SetupError, StartError, refused, refused_file};
use crate::group::Group;
use crate::host::{Host, Lost};
use crate::process::{Launch, Stdio};
use crate::pump::Pump;
use crate::root::{Base, Layers};
use crate::streams::{Dial, Streams};
use crate::sys::{self, Pid};
use crate::terminal::{self, Terminal};
use crate::work;

pub use ending::failed;
use ending::{has_starved, kill_all, status_of};
use rest::Rest;

/// Init's life after the root is furnished.
#[derive(Debug)]
pub struct Supervisor {
    host: Host,
    dial: Dial,
    hostname: Vec<u8>,
    group: Option<Group>,
    layers: Option<Layers>,
    epoll: OwnedFd,
    children: OwnedFd,
    processes: Vec<Running>,
    streams: Streams,
    /// The machine ends with this process.
    first: ProcessId,
    /// Whether the container is being stopped for a save.
    rest: Rest,
}

/// A process that was started and whose end is not yet told.
#[derive(Debug)]
struct Running {
    id: ProcessId,
    pid: Pid,
    streams: Vec<usize>,
    /// Init's side of its terminal.
    terminal: Option<OwnedFd>,
    /// Known once it is reaped, with the time of that.
    ended: Option<(Status, u64)>,
}

const HOST: u64 = 0;
const CHILDREN: u64 = 1;
const GROUP: u64 = 2;
/// The tokens of streams follow.
const FIRST_STREAM: u64 = 3;

const EVENTS: usize = 32;

impl Supervisor {
    /// Ready to run processes, all of them in `group`, in a root of these layers. Signals must be blocked.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(
        host: Host,
        dial: Dial,
        hostname: &[u8],
        group: Option<Group>,
        layers: Option<Layers>,
        first: ProcessId,
    ) -> Result<Self, (Host, SetupError)> {
        let prepare = || {
            let epoll =
                epoll::create(epoll::CreateFlags::CLOEXEC).map_err(refused("make an epoll"))?;
            let children = sys::child_signals().map_err(refused("watch children"))?;
            let watch = |fd, token, flags| {
                epoll::add(&epoll, fd, EventData::new_u64(token), flags)
                    .map_err(refused("watch a descriptor"))
            };
            let both_ways = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            watch(host.as_fd(), HOST, both_ways)?;
            watch(children.as_fd(), CHILDREN, EventFlags::IN)?;
            Ok((epoll, children))
        };
        match prepare() {
            Ok((epoll, children)) => Ok(Self {
                host,
                dial,
                hostname: hostname.to_vec(),
                group,
                layers,
                epoll,
                children,
                processes: Vec::new(),
                streams: Streams::new(FIRST_STREAM, dial),
                first,
                rest: Rest::No,
            }),
            Err(error) => Err((host, error)),
        }
    }

    /// Starts a process and tells the host how that went.
    ///
    /// # Errors
    /// The host is gone.
    pub fn run(&mut self, process: &Process) -> Result<(), Lost> {
        let message = match self.start(process) {
            Ok(()) => FromGuest::Started {
                process: process.id,
                tsc: sys::tsc(),
            },
            Err(error) => failed(process.id, &error),
        };
        self.host.send(&message)
    }

    /// Serves until the host closes the connection, which it does when it has what it wanted.
    pub fn serve(mut self) -> Lost {
        loop {
            if let Err(lost) = self.turn() {
                return lost;
            }
        }
    }

    fn start(&mut self, process: &Process) -> Result<(), StartError> {
        let launch = Launch::prepare(process, &self.hostname)?;
        let mut pumps = Vec::with_capacity(3);
        let mut terminal = None;
        let stdio = match process.terminal {
            Some(size) => {
                let opened =
                    Terminal::open(size, launch.uid()).map_err(refused("open a terminal"))?;
                pumps.extend(self.attach_terminal(process, &opened.far)?);
                terminal = Some(opened.far);
                Stdio::terminal(opened.near).map_err(refused("open a terminal"))?
            }
            None => self.pipes(process.id, process.stdin, launch.uid(), &mut pumps)?,
        };
        let pid = launch.start(stdio, self.group.as_ref())?;
        self.watch(process.id, pid, pumps, terminal)
    }

    /// Does something that needs no program and tells the host how that went.
    ///
    /// # Errors
    /// The host is gone.
    pub fn work(&mut self, id: ProcessId, work: &Work) -> Result<(), Lost> {
        let mut pumps = Vec::with_capacity(3);
        let started = self
            .pipes(id, work::reads(work), 0, &mut pumps)
            // Who asked for it waits for its streams before anything else.
            .and_then(|stdio| {
                let mut pumps = pumps.iter_mut().filter(|pump| !pump.is_connected());
                pumps.try_for_each(|pump| self.streams.dial(pump))?;
                Ok(stdio)
            })
            .and_then(|stdio| work::start(work, stdio, self.layers.as_ref()))
            .map_err(StartError::from)
            .and_then(|pid| self.watch(id, pid, pumps, None));
        let message = match started {
            Ok(()) => FromGuest::Started {
                process: id,
                tsc: sys::tsc(),
            },
            Err(error) => failed(id, &error),
        };
        self.host.send(&message)
    }

    fn watch(
        &mut self,
        id: ProcessId,
        pid: Pid,
        pumps: Vec<Pump>,
        terminal: Option<OwnedFd>,
    ) -> Result<(), StartError> {
        let mut streams = Vec::with_capacity(pumps.len());
        for pump in pumps {
            streams.push(self.streams.add(&self.epoll, pump)?);
        }
        self.processes.push(Running {
            id,
            pid,
            streams,
            terminal,
            ended: None,
        });
        Ok(())
    }

    fn pipes(
        &self,
        process: ProcessId,
        stdin: bool,
        uid: u32,
        pumps: &mut Vec<Pump>,
    ) -> Result<Stdio, SetupError> {
        let mut piped = |stream| self.stream(process, stream, uid, pumps);
        let input = if stdin {
            piped(Stream::Stdin)?
        } else {
            let null =
                rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            null.map_err(refused_file("open", b"/dev/null"))?
        };
        Ok(Stdio {
            input,
            output: piped(Stream::Stdout)?,
            error: piped(Stream::Stderr)?,
        })
    }

    /// The pumps of a terminal; nothing is carried to it if the host serves no input.
    fn attach_terminal(&self, process: &Process, far: &OwnedFd) -> Result<Vec<Pump>, SetupError> {
        let copy = |fd: &OwnedFd| {
            rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(refused("copy a descriptor"))
        };
        let socket = (self.dial)().map_err(refused("dial the host"))?;
        let sockets = [copy(&socket)?, socket];
        let pumps = Pump::terminal(process.id, sockets, [copy(far)?, copy(far)?]);
        let pumps = pumps.map_err(|_| refused("set up a stream")(Errno::INVAL))?;
        Ok(pumps
            .into_iter()
            .filter(|pump| process.stdin || !pump.is_inward())
            .collect())
    }

    /// A pipe whose far end is the host's; gives the process's end.
    fn stream(
        &self,
        process: ProcessId,
        stream: Stream,
        uid: u32,
        pumps: &mut Vec<Pump>,
    ) -> Result<OwnedFd, SetupError> {
        let (reader, writer) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(refused("make a pipe"))?;
        let (ours, theirs) = if stream == Stream::Stdin {
            (writer, reader)
        } else {
            (reader, writer)
        };
        // Only our end: the flag belongs to the open file, and the process expects to wait.
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK).map_err(refused("set up a pipe"))?;
        if uid != 0 {
            // So that opening /dev/stdout works for it too.
            rustix::fs::fchown(&ours, Some(Uid::from_raw(uid)), None::<Gid>)
                .map_err(refused("set up a pipe"))?;
        }
        let mut pump = Pump::pipe(Attach { process, stream }, ours);
        if pump.is_inward() {
            // The host speaks first.
            self.streams.dial(&mut pump)?;
        }
        pumps.push(pump);
        Ok(theirs)
    }

    /// Waits for something and deals with it. Streams that had more than their turn's worth go on after everyone else
    /// had theirs.
    fn turn(&mut self) -> Result<(), Lost> {
        let mut events = Vec::with_capacity(EVENTS);
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let has_more = self.streams.has_more() && !self.rest.holds_streams();
        let timeout = has_more.then_some(&at_once);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Lost::Failed(errno.into())),
        }
        if has_more {
            self.streams.go_on(&self.epoll);
        }
        for event in &events {
            match event.data.u64() {
                HOST => self.hear()?,
                CHILDREN => self.reap(),
                GROUP => self.look_at_group()?,
                token => self.stream_happened(token, event.flags),
            }
        }
        match self.rest.holds_streams() {
            true => Ok(()),
            false => self.settle(),
        }
    }

    /// Sends what waits and carries out what the host asks for.
    fn listen(&mut self) -> Result<(), Lost> {
        self.host.flush()?;
        while let Some(message) = self.host.receive()? {
            match message {
                FromHost::Run { process, .. } => {
                    let error = refused("run a second container in one machine")(Errno::EXIST);
                    self.host.send(&failed(process.id, &error.into()))?;
                }
                FromHost::Exec { process } => self.run(&process)?,
                FromHost::Rest { sync } => self.rest(sync)?,
                FromHost::GoOn => self.go_on()?,
                FromHost::Bound(bounds) => {
                    if let Some(group) = &self.group {
                        // A number that the kernel refuses leaves the bound that was.
                        let _ = group.bound(&bounds);
                    }
                }
                FromHost::Renew(renewal) => self.become_another(&renewal)?,
                FromHost::Work { process, work } => self.work(process, &work)?,
                // It is late for that.
                FromHost::ReadAhead { .. } => {}
                FromHost::Resize { process, size } => self.resize(process, size),
                FromHost::Signal { process, signal } => {
                    let running = self.processes.iter().find(|running| running.id == process);
                    if let Some(Running {
                        pid, ended: None, ..
                    }) = running
                    {
                        // It may have ended just now, and a signal may be none: nothing to tell in either case.
                        let _ = sys::kill(*pid, signal.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn resize(&self, process: ProcessId, size: WindowSize) {
        let running = self.processes.iter().find(|running| running.id == process);
        if let Some(far) = running.and_then(|running| running.terminal.as_ref()) {
            // It is a terminal, so this cannot fail.
            let _ = terminal::resize(far, size);
        }
    }

    /// Notes who ended; orphans that became init's children are just buried.
    fn reap(&mut self) {
        let mut signals = [0_u8; 128];
        let _ = rustix::io::read(&self.children, signals.as_mut_slice());
        let mut first_ended = false;
        let nobody_left = loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => (Pid(pid.as_raw_pid()), status),
                Ok(None) => break false,
                Err(_) => break true,
            };
            let ended = self
                .processes
                .iter_mut()
                .find(|running| running.pid == pid && running.ended.is_none());
            let (Some(running), Some(status)) = (ended, status_of(status)) else {
                continue;
            };
            running.ended = Some((status, sys::tsc()));
            first_ended |= running.id == self.first;
        };
        // Whoever lives has init for a forefather. To look for nobody costs a walk through all that the kernel has.
        if first_ended && !nobody_left {
            kill_all();
        }
    }

    /// Tells the end of each process that ended and has no output left here. A stream that others still hold open is
    /// not waited for.
    fn settle(&mut self) -> Result<(), Lost> {
        for running in core::mem::take(&mut self.processes) {
            match running.ended {
                Some((status, tsc)) if self.streams.finish(&self.epoll, &running.streams) => {
                    let outputs = self.streams.told(&running.streams);
                    // After this round's events: one of them may still name a slot.
                    self.streams.release(&running.streams);
                    let process = running.id;
                    if process == self.first {
                        self.keep();
                        if status != Status::Code(0) && has_starved() {
                            self.host.send(&FromGuest::Starved { process })?;
                        }
                    }
                    self.host.send(&FromGuest::Exited {
                        process,
                        status,
                        tsc,
                        outputs,
                    })?;
                }
                _ => self.processes.push(self.hang_up(running)),
            }
        }
        Ok(())
    }

    /// What was written is on the disk, if there is one, before the host hears of the end and ends the machine. A directory of the
    /// host has it already.
    fn keep(&self) {
        if let Some(Layers {
            base: Base::Image | Base::Lower,
            upper,
            kept: true,
            ..
        }) = &self.layers
        {
            // A disk that fails now has told whoever asked it.
            let _ = rustix::fs::syncfs(upper);
        }
    }

    /// Gives up a terminal whose host has gone, as a telephone line would: who is behind it is told by a signal.
    fn hang_up(&self, mut running: Running) -> Running {
        // The first stream of a terminal is the one from it.
        let outward = running.streams.first().copied();
        if running.terminal.is_some() && !outward.is_some_and(|slot| self.streams.is_open(slot)) {
            running.terminal = None;
        }
        running
    }
}

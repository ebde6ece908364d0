//! The process that supervises one container: the VMM's parent, forked off by whoever starts the container, in a session
//! of its own. It serves the container's socket, writes its log and its state, and removes it at its end if it was to be.

use std::os::fd::AsFd;
use std::process;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::Status as ProcessStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::{Agent, AgentError, Client, SharedLog, Signals, Task, Watcher};
use crate::container::log::Log;
use crate::container::{Config, Container, LogDriver, State, Status, Supervision, Way, events};
use crate::control::{Ended, Listener, Request, Socket};
use crate::failure::Failure;
use crate::jail::Process;
use crate::launch::{Outside, Vmm};
use crate::publish::{self, Bound, holder};
use crate::resolving::Following;
use crate::session::exit_code;
use crate::template::{self, Key, Model, Templates};
use crate::uplink::Namespace;
use crate::vmm::{Goal, Rest};
use crate::{human, networks, sys, uplink, volume};

mod parts;
mod work;

pub(crate) use parts::{Own, Parts, kernel, missing};
pub(crate) use work::work;

/// The wait before a container is started again; doubled each time, up to [`LONGEST_WAIT`], as docker does.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A run as long as this makes the next wait the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How long clients may take to be gone, which are told of the end.
const LAST_PATIENCE: Duration = Duration::from_millis(20);

/// Starts the container in a process of its own, from where its machine was `saved` if it was, and gives a connection to its
/// supervisor, on which `first` has been asked. Connections to `others` are not handed on to it.
/// To be called while this process has one thread.
#[expect(clippy::exit, reason = "the child of a fork has nothing to go back to")]
pub(crate) fn start(
    container: Container,
    supervision: Supervision,
    task: Task,
    parts: Parts,
    saved: Option<Rest>,
    first: &Request,
    others: &mut Vec<Socket>,
) -> Result<Socket, Failure> {
    let (ours, theirs) = Socket::pair()?;
    ours.send(first, None)?;
    match sys::fork()? {
        sys::Forked::Parent => Ok(ours),
        sys::Forked::Child => {
            drop(ours);
            others.clear();
            let supervisor = Supervisor {
                container,
                supervision,
                task,
                parts,
                saved,
                namespace: None,
                following: None,
                last: None,
                clients: vec![Client::first(theirs)],
            };
            supervisor.run();
            process::exit(0);
        }
    }
}

/// Waits a moment for one of those who were told of the end to end too: nobody shall wait for what this process has left to do, its
/// own end included, where both share a processor.
fn let_go_first(told: &[Socket]) {
    if told.is_empty() {
        return;
    }
    let limit = Timespec::try_from(LAST_PATIENCE).ok();
    // Neither readable nor writable: only that the other end is closed.
    let mut closed: Vec<_> = told
        .iter()
        .map(|socket| PollFd::new(socket, PollFlags::empty()))
        .collect();
    let _ = poll(&mut closed, limit.as_ref());
}

struct Supervisor {
    container: Container,
    supervision: Supervision,
    task: Task,
    parts: Parts,
    /// Where its first machine begins.
    saved: Option<Rest>,
    /// Where the device is that its network card leads to, if not among the host's own.
    namespace: Option<Namespace>,
    /// What its network asks how names are resolved.
    following: Option<Following>,
    /// The machine that ended. If it has a control group, dropping this waits until that is removed: after the clients are told.
    last: Option<Process>,
    clients: Vec<Client>,
}

/// How a machine came to be.
enum Origin {
    Boot,
    Template(Key),
    /// The container runs in it already.
    Snapshot,
}

/// How one start ended, and whether it was told to.
struct Run {
    ended: Ended,
    told: bool,
}

impl Supervisor {
    fn run(mut self) {
        leave_the_user(self.container.config.machine.kernel_log);
        let (mut signals, listener, log) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(failure) => return self.finish(ended(Err(failure)), State::default()),
        };
        let mut state = State::default();
        let mut wait = FIRST_WAIT;
        loop {
            (state.status, state.pid) = (Status::Running, process::id());
            (state.vmm, state.started, state.oom_killed) = (0, 0, false);
            state.health = None;
            if let Err(error) = self.container.set_state(&state) {
                return self.finish(ended(Err(error.into())), state);
            }
            let start = Instant::now();
            let run = self.once(&mut signals, &listener, &log);
            uplink::detach(&self.container, self.namespace.take().as_ref());
            let written = self.container.state();
            (state.started, state.oom_killed) = (written.started, written.oom_killed);
            state.health = written.health;
            // One that cannot be read leaves what was asked for before.
            let _ = self.container.reload();
            let restart = self.container.config.restart;
            let again = restart.again(code(&run.ended), state.restarts);
            if run.told || state.started == 0 || !again {
                drop(listener);
                return self.finish(run.ended, state);
            }
            if start.elapsed() >= GOOD_RUN {
                wait = FIRST_WAIT;
            }
            note(&mut state, &run.ended, Status::Restarting);
            let _ = self.container.set_state(&state);
            self.died(&state);
            self.tell(&run.ended);
            self.pause(&listener, wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            state.restarts += 1;
        }
    }

    fn prepare(&self) -> Result<(Signals, Listener, SharedLog), Failure> {
        let signals = Signals::catch()?;
        let listener = Listener::bind(self.container.directory())?;
        let log = match self.container.config.log {
            LogDriver::None => None,
            LogDriver::JsonFile => Some(Arc::new(Mutex::new(Log::open(
                &self.container.log_path(),
                self.container.config.log_limits,
            )?))),
        };
        Ok((signals, listener, log))
    }

    /// One virtual machine, from its start to its end.
    fn once(&mut self, signals: &mut Signals, listener: &Listener, log: &SharedLog) -> Run {
        let mut told = false;
        let mut task = self.task.clone();
        let (mut vmm, origin) = match self.boot(&mut task) {
            Ok(started) => started,
            Err(failure) => {
                let ended = ended(Err(failure));
                return Run { ended, told };
            }
        };
        let watcher = Watcher {
            container: Some(&self.container),
            listener: Some(listener),
            clients: &mut self.clients,
            told: &mut told,
        };
        let agent = Agent::new(&mut vmm, task, signals, watcher, log);
        let agent = agent.following(self.following.take());
        let outcome = match origin {
            Origin::Snapshot => agent.of_copy().run(),
            Origin::Boot | Origin::Template(_) => agent.run(),
        };
        let ended = match outcome {
            Ok(outcome) => {
                if let (true, Origin::Template(key)) = (outcome.booted, origin) {
                    // It was to be restored, and could not be.
                    Templates::of(self.container.store()).remove(&key);
                }
                // The guest powers off by itself now; its report has the counts.
                let report = self.container.config.machine.timings.then(|| vmm.report());
                match report.transpose() {
                    Ok(report) => Ended {
                        result: Ok(outcome.status),
                        ticks: outcome.ticks,
                        report,
                    },
                    Err(died) => ended(Err(AgentError::Died(died).into_failure())),
                }
            }
            Err(error) => {
                // It may be stopped, or deaf to the end of its sockets.
                vmm.kill();
                ended(Err(error.into_failure()))
            }
        };
        self.last = Some(vmm.into_process());
        Run { ended, told }
    }

    /// Waits before the next start; not while somebody wants something of it.
    fn pause(&mut self, listener: &Listener, wait: Duration) {
        let Ok(timeout) = Timespec::try_from(wait) else {
            return;
        };
        let mut ready = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
        let _ = poll(&mut ready, Some(&timeout));
    }

    fn died(&self, state: &State) {
        let code = ("exitCode", state.exit_code.to_string());
        events::note(&self.container, "die", Some(code));
    }

    fn tell(&mut self, ended: &Ended) {
        for client in self.clients.drain(..) {
            client.ended(ended);
        }
    }

    /// Writes the end down, or leaves nothing, and then tells who wants to know.
    fn finish(self, ended: Ended, mut state: State) {
        let next = match state.started {
            0 => Status::Created,
            _ => Status::Exited,
        };
        note(&mut state, &ended, next);
        if state.started > 0 {
            self.died(&state);
        }
        networks::leave(&self.container);
        let config = &self.container.config;
        // What cannot be written or removed is made good by whoever looks at the container next.
        let _ = match config.remove {
            true => {
                let removed = self.container.remove(&self.supervision);
                volume::remove_anonymous(&self.container.config.volumes);
                removed
            }
            false => self.container.set_state(&state),
        };
        let Self {
            supervision,
            clients,
            container,
            parts,
            task,
            last,
            ..
        } = self;
        drop(supervision);
        let told = clients.into_iter().map(|client| client.ended(&ended));
        let_go_first(&told.collect::<Vec<_>>());
        drop(last);
        if state.started != 0 && ended.result.is_ok() {
            leave_template(&container, parts, &task);
        }
    }
}

impl Supervisor {
    /// Takes the published ports and the network's device, and makes a machine, from a snapshot, or from a template if one is wanted
    /// and there.
    fn boot(&mut self, task: &mut Task) -> Result<(Vmm, Origin), Failure> {
        let saved = self.saved.take();
        let config = &self.container.config;
        let (ports, bound) = match config.uplink {
            // Its plugins publish them.
            Some(_) => (
                Vec::new(),
                config.ports.iter().map(Bound::by_others).collect(),
            ),
            None => match publish::bind_all(&config.ports) {
                Ok(ports) => ports,
                Err(error) => {
                    let hint = holder::hint(&error, &self.container);
                    let failure = Failure::new(error);
                    return Err(hint.into_iter().fold(failure, Failure::hint));
                }
            },
        };
        let attached = uplink::attach(&self.container, task)?;
        self.namespace = attached.namespace;
        if !bound.is_empty() || attached.card.is_some() {
            let mut state = self.container.state();
            (state.ports, state.card) = (bound, attached.card);
            self.container.set_state(&state)?;
        }
        let journal = config.machine.network.as_ref();
        let shares = config.shared().map(volume::share);
        let (following, servers) = match &config.machine.network {
            Some(settings) if settings.resolvers.is_empty() && attached.tap.is_none() => {
                let (following, servers) = Following::new()?;
                (Some(following), Some(servers))
            }
            _ => (None, None),
        };
        self.following = following;
        let outside = Outside {
            ports,
            journal: journal.map(|_| self.container.journal()).transpose()?,
            neighbours: networks::join(&self.container)?,
            tap: attached.tap,
            servers,
            shares: shares.collect::<Result<_, _>>()?,
        };
        let own = Own {
            outside,
            disk: self.container.disk()?,
        };
        let launch = |goal| self.parts.launch(&config.machine, own, goal);
        if let Some(rest) = saved {
            let or_boot = false;
            return Ok((launch(Goal::Restore { rest, or_boot })?, Origin::Snapshot));
        }
        if !config.may_be_warm() {
            return Ok((launch(Goal::Boot)?, Origin::Boot));
        }
        let templates = Templates::of(self.container.store());
        let model = model(config, &self.parts);
        let key = Key::of(&model)?;
        if config.start == Way::Warm {
            let made = template::make(&templates, &key, &model, &self.task);
            made.map_err(|error| {
                Failure::new(error).hint("`--start auto` boots where there is no template.")
            })?;
        }
        match templates.find(&key) {
            Some(rest) => {
                let goal = Goal::Restore {
                    rest,
                    or_boot: true,
                };
                Ok((launch(goal)?, Origin::Template(key)))
            }
            None => Ok((launch(Goal::Boot)?, Origin::Boot)),
        }
    }
}

/// Leaves a template for the next run of this shape, now that nobody waits for anything. What hinders it is the next run's
/// business, which then boots.
fn leave_template(container: &Container, parts: Parts, task: &Task) {
    let config = &container.config;
    if !config.may_be_warm() {
        return;
    }
    let templates = Templates::of(container.store());
    let Ok(key) = Key::of(&model(config, &parts)) else {
        return;
    };
    // The image is in use no more: whoever removes it needs not wait for this.
    let Ok(parts) = parts.without_lock() else {
        return;
    };
    let _ = rustix::process::nice(19);
    let _ = template::make(&templates, &key, &model(config, &parts), task);
}

/// What a template for this container resembles.
fn model<'a>(config: &'a Config, parts: &'a Parts) -> Model<'a> {
    Model {
        machine: &config.machine,
        parts,
        storage: config.storage,
    }
}

/// An end before there was anything to count.
fn ended(result: Result<ProcessStatus, Failure>) -> Ended {
    Ended {
        result,
        ticks: [0; 3],
        report: None,
    }
}

fn code(ended: &Ended) -> u8 {
    match &ended.result {
        Ok(status) => exit_code(*status),
        Err(failure) => failure.exit_code(),
    }
}

/// Writes an end into a state.
fn note(state: &mut State, ended: &Ended, status: Status) {
    state.status = status;
    (state.pid, state.vmm) = (0, 0);
    state.finished = human::nanoseconds();
    state.exit_code = code(ended);
    state.error = match &ended.result {
        Ok(_) => String::new(),
        Err(failure) => failure.line(),
    };
}

/// Becomes a process of nobody's session, with none of the user's files open but what was handed on; the kernel's log goes
/// to the standard error of whoever asked for it.
fn leave_the_user(keeps_error: bool) {
    // None of these can fail for a process that was just forked, and none is needed for what follows.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let Ok(null) = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()) else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    if !keeps_error {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

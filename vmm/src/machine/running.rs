//! Processors in their threads, and how they are got out of the guest again.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::bus::Bus;
use super::devices::{Devices, Server};
use super::ending::Ending;
use super::reactor::{Happening, Reactor};
use super::report::{Counts, End};
use super::vcpu::{Stop, Vcpu};
use super::waiter::Waiter;
use super::{MachineError, Paused, step};
use crate::jail;
use crate::sys::{self, ExitSwitch};

/// A vCPU's thread holds one frame for an exit at a time.
const STACK: usize = 256 << 10;
/// A signal that is sent while a thread is between two system calls does nothing: it is repeated so often.
const PATIENCE: Duration = Duration::from_millis(10);
const ATTEMPTS: u32 = 100;
/// A pause that gave up would lose the guest; it has more time than an end.
const ATTEMPTS_TO_PAUSE: u32 = 1000;

/// How long a request to the host's files may take that is under way when the machine is to stand still.
const PATIENCE_WITH_FILES: Duration = Duration::from_secs(5);

/// The guest runs.
pub(crate) struct Running {
    threads: Vec<Runner>,
    waiters: Vec<Waiter>,
    bus: Arc<Bus>,
    reactor: Reactor,
    /// Held by the network's thread while it serves: who holds it has the devices to itself.
    turn: Arc<Mutex<()>>,
}

struct Runner {
    thread: JoinHandle<Vcpu>,
    switch: Arc<ExitSwitch>,
    berth: Berth,
}

/// Where a thread leaves its processor while it waits.
type Berth = Arc<Mutex<Option<Vcpu>>>;

impl Running {
    /// Starts a thread for each processor.
    pub(super) fn begin(
        paused: Paused,
        devices: &Devices,
        ending: &Arc<Ending>,
        control: Option<BorrowedFd<'_>>,
        console: Option<OwnedFd>,
    ) -> Result<Self, MachineError> {
        step("Preparing a signal", sys::make_kick_harmless())?;
        let Paused { vcpus, bus, wake } = paused;
        let reactor = step(
            "Watching devices",
            Reactor::new(Server::Main, devices, ending, control, console),
        )?;
        let turn = Arc::new(Mutex::new(()));
        let network = devices
            .iter()
            .any(|plugged| plugged.server == Server::Network);
        let network = network.then(|| Reactor::new(Server::Network, devices, ending, None, None));
        let network = step("Watching the network", network.transpose())?;
        ending.begin();
        let mut threads = Vec::with_capacity(vcpus.len());
        // No processor enters the guest before every thread is confined.
        let confined = Arc::new(OnceLock::new());
        for vcpu in vcpus {
            threads.push(step(
                "Starting a processor's thread",
                Runner::new(vcpu, &bus, ending, &confined),
            )?);
        }
        if let Some(network) = network {
            step(
                "Starting the network's thread",
                serve_apart(network, &bus, ending, &turn, &confined),
            )?;
        }
        let mut waiters = Vec::new();
        for device in devices.iter().filter(|device| device.slot.blocks()) {
            waiters.push(step(
                "Starting a device's thread",
                Waiter::new(device.clone(), ending, &confined),
            )?);
        }
        step("Filtering system calls", jail::confine(jail::Role::Reactor))?;
        let _ = confined.set(());
        if wake {
            devices.iter().for_each(|device| device.wake());
        }
        Ok(Self {
            threads,
            waiters,
            bus,
            reactor,
            turn,
        })
    }

    /// Stops all processors and devices where they are, has `act` look at the processors, and lets everything go on.
    pub(super) fn hold<T>(
        &self,
        ending: &Ending,
        act: impl FnOnce(&[Vcpu]) -> T,
    ) -> Result<T, MachineError> {
        // This thread serves all other devices.
        let _turn = lock(&self.turn);
        ending.hold();
        let still = |waiter: &Waiter| waiter.hold(PATIENCE_WITH_FILES);
        let stopped = self.waiters.iter().all(still) && self.stop(ending, ATTEMPTS_TO_PAUSE);
        let berths = self.threads.iter().map(|runner| lock(&runner.berth));
        let mut vcpus: Vec<Vcpu> = berths.filter_map(|mut berth| berth.take()).collect();
        // Fewer where the guest has just ended.
        let done = match (stopped, vcpus.len() == self.threads.len()) {
            (true, true) => Ok(act(&vcpus)),
            (true, false) => Err(MachineError::Over),
            (false, _) => Err(MachineError::Stuck),
        };
        for vcpu in vcpus.drain(..) {
            if let Some(runner) = self.threads.get(usize::from(vcpu.index())) {
                *lock(&runner.berth) = Some(vcpu);
            }
        }
        for runner in &self.threads {
            runner.switch.set(false);
        }
        ending.release();
        self.waiters.iter().for_each(Waiter::release);
        done
    }

    /// See [`super::Machine::watch_writer`].
    pub(super) fn watch_writer(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.reactor.watch_writer(socket)
    }

    /// See [`super::Machine::serve`].
    pub(super) fn serve(&mut self) -> io::Result<Happening> {
        self.reactor.serve(&self.bus)
    }

    /// All processors out of the guest and back in one hand.
    pub(super) fn pause(self, ending: &Ending) -> Result<Paused, MachineError> {
        if !self.stop(ending, ATTEMPTS_TO_PAUSE) {
            return Err(MachineError::Stuck);
        }
        self.waiters.into_iter().for_each(Waiter::join);
        let mut vcpus: Vec<Vcpu> = self
            .threads
            .into_iter()
            .filter_map(|runner| runner.thread.join().ok())
            .collect();
        vcpus.sort_by_key(Vcpu::index);
        Ok(Paused {
            vcpus,
            bus: self.bus,
            wake: true,
        })
    }

    /// All processors out of the guest for good; what happened on them. Those that are stuck are left behind: the process
    /// is about to end. Nobody waits for the threads themselves to be gone.
    pub(super) fn finish(&self, ending: &Ending) -> Counts {
        self.stop(ending, ATTEMPTS);
        self.waiters.iter().for_each(Waiter::stop);
        Counts {
            kicks: self.reactor.kicks,
            ..ending.counts()
        }
    }

    /// Makes every thread leave its loop.
    fn stop(&self, ending: &Ending, attempts: u32) -> bool {
        if ending.all_left(Duration::ZERO) {
            return true;
        }
        for _ in 0..attempts {
            for runner in &self.threads {
                runner.switch.set(true);
                sys::kick(&runner.thread);
            }
            if ending.all_left(PATIENCE) {
                return true;
            }
        }
        false
    }
}

/// Starts the thread that serves the network. It ends with the machine, or with the process.
fn serve_apart(
    mut reactor: Reactor,
    bus: &Arc<Bus>,
    ending: &Arc<Ending>,
    turn: &Arc<Mutex<()>>,
    confined: &Arc<OnceLock<()>>,
) -> io::Result<()> {
    reactor.take_turns(turn.clone());
    let (bus, ending, confined) = (bus.clone(), ending.clone(), confined.clone());
    let body = move || {
        let result = jail::confine(jail::Role::Network).and_then(|()| {
            confined.wait();
            reactor.serve(&bus)
        });
        if let Err(error) = result {
            ending.declare(End::Failed {
                cause: format!("Serving the network failed: {error}"),
            });
        }
    };
    let builder = Builder::new().name("network".to_owned());
    builder.stack_size(STACK).spawn(body).map(drop)
}

impl Runner {
    fn new(
        mut vcpu: Vcpu,
        bus: &Arc<Bus>,
        ending: &Arc<Ending>,
        confined: &Arc<OnceLock<()>>,
    ) -> io::Result<Self> {
        let switch = vcpu.exit_switch()?;
        switch.set(false);
        let (bus, ending, confined) = (bus.clone(), ending.clone(), confined.clone());
        let berth = Berth::default();
        ending.enter();
        let thread = Builder::new()
            .name(format!("vcpu{}", vcpu.index()))
            .stack_size(STACK)
            .spawn({
                let (ending, berth) = (ending.clone(), berth.clone());
                move || {
                    let stop = match jail::confine(jail::Role::Vcpu) {
                        Ok(()) => {
                            confined.wait();
                            loop {
                                match vcpu.run(&bus) {
                                    Stop::Asked if ending.is_held() => {}
                                    stop => break stop,
                                }
                                vcpu = wait_in(&berth, vcpu, &ending);
                            }
                        }
                        Err(error) => Stop::End(End::Failed {
                            cause: format!("Filtering system calls failed: {error}"),
                        }),
                    };
                    if let Stop::End(end) = stop {
                        ending.declare(end);
                    }
                    ending.leave(&vcpu.counts);
                    vcpu
                }
            });
        if thread.is_err() {
            ending.leave(&Counts::default());
        }
        Ok(Self {
            thread: thread?,
            switch,
            berth,
        })
    }
}

/// Leaves the processor to others until the machine goes on.
fn wait_in(berth: &Mutex<Option<Vcpu>>, vcpu: Vcpu, ending: &Ending) -> Vcpu {
    *lock(berth) = Some(vcpu);
    loop {
        ending.wait();
        if let Some(vcpu) = lock(berth).take() {
            return vcpu;
        }
    }
}

/// What a thread that panicked has left is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

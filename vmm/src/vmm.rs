//! The VMM process: `hull vmm`, started by the launcher with one socket as its standard input.
//!
//! Everything it works with arrives as descriptors in one message on that socket, and its report leaves by the same way.
//! It opens no path, and knows no image, no command line and no store.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use network::{Neighbours, Stack, Tap};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::set_no_new_privs;
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use virtio::{Access, Balloon, Block, Console, Entropy, Fs, MediumError, Net, Vsock, fs};

use crate::config::{Root, VmConfig};
use crate::machine::memory::GuestMemory;
use crate::machine::probe::{self, Unfit};
use crate::machine::report::{Counts, End, Report, Timings};
use crate::machine::{Built, Happening, Machine, MachineError, Paused, Running, Server};
use crate::snapshot::FormatError;
use crate::{jail, sys};
use writer::Writer;

mod rest;
mod start;
mod writer;

pub(crate) use start::{
    DiskFile, Goal, Order, Rest, Start, StartError, Word, receive_word, send_word,
};

/// What becomes of the connections that a saved machine had.
#[derive(Debug, Clone, Copy)]
enum Survivors {
    /// They go on.
    Kept,
    /// The guest hears that they are gone.
    Dropped,
}

/// The guest's address on its vsock; the host's is 2. There is only one guest on it.
const GUEST_CID: u32 = 3;
/// Files that are open at a time even where the host's limit is low.
const LEAST_OPEN: usize = 128;
/// Bytes of memory that a guest needs to know a file: a guest that means well never knows more.
const NODE: u64 = 1 << 10;
/// And what no guest needs.
const MOST_NODES: usize = 4 << 20;

/// What ends a VMM process before its guest does.
#[derive(Debug, Error)]
enum VmmError {
    /// No message from the launcher.
    #[error("The VMM got no orders")]
    Start(#[from] StartError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// KVM.
    #[error("This host cannot run guests")]
    Unfit(#[from] Unfit),
    /// Guest memory.
    #[error("Getting memory for the guest failed")]
    Memory(#[source] io::Error),
    /// A layer of the jail, and every layer is asked for.
    #[error("This host does not allow a whole jail, which --jail strict asks for ({0})")]
    Jail(String),
    /// A disk.
    #[error("Disk {0} cannot be used")]
    Disk(usize, #[source] MediumError),
    /// The vsock device.
    #[error("Making the guest's socket device failed")]
    Vsock(#[source] io::Error),
    /// What is seen of the host.
    #[error("Making the guest's file system device failed")]
    Share(#[source] io::Error),
    /// The network.
    #[error("Making the guest's network failed")]
    Network(#[source] io::Error),
    /// The console.
    #[error("Making the guest's console failed")]
    Console(#[source] io::Error),
    /// A saved machine's file.
    #[error(transparent)]
    Saved(#[from] FormatError),
    /// Writing one.
    #[error("Writing the machine's state failed")]
    Save(#[source] io::Error),
    /// Writing its memory while it goes on.
    #[error("Making a process that writes the memory failed")]
    Part(#[source] io::Error),
}

impl VmmError {
    /// How the report puts it.
    fn end(&self) -> End {
        match self {
            Self::Unfit(unfit @ (Unfit::Emulated(_) | Unfit::Slow(_))) => End::Emulation {
                reason: unfit.to_string(),
            },
            other => End::Failed {
                cause: chain(other),
            },
        }
    }
}

/// The process's main function. Whatever happens is told in the report; the exit code only says whether there was one.
pub(crate) fn run() -> ExitCode {
    // Nothing of a guest gets into a core file or under another process's eyes, and no program it might start gains anything.
    // Neither call can fail with these arguments.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = set_no_new_privs(true);
    sys::wait_for_no_children();
    sys::end_when_told();
    serve(io::stdin().as_fd())
}

/// The life of a VMM process whose launcher is at the other end of this socket.
fn serve(launcher: BorrowedFd<'_>) -> ExitCode {
    let mut timings = Timings {
        started: now(),
        ..Timings::default()
    };
    // The launcher waits for the report; taking the machine apart takes KVM longer than all the rest.
    let (machine, end, counts) = match live(launcher, &mut timings) {
        Ok((Left::Running(mut machine), ended)) => {
            timings.ended = ended;
            let (end, counts) = machine.finish();
            (Some(machine), end, counts)
        }
        Ok((Left::Saved, ended)) => {
            timings.ended = ended;
            (None, End::Saved, Counts::default())
        }
        Err(error) => (None, error.end(), Counts::default()),
    };
    timings.jail = jail::cost();
    let report = Report {
        end,
        counts,
        timings,
    };
    let sent = send_word(launcher, &Word::Report(report));
    drop(machine);
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What is left of a machine.
enum Left {
    /// All of it, to be stopped.
    Running(Box<Machine<Running>>),
    /// Two files.
    Saved,
}

/// From the launcher's message to the guest's end, and when that was.
fn live(launcher: BorrowedFd<'_>, timings: &mut Timings) -> Result<(Left, u64), VmmError> {
    let mut start = Start::receive(launcher)?;
    timings.received = now();
    let may_be_saved = may_be_saved(&start);
    let served = start.config.volumes;
    let mut shares = jail::Shares::new(std::mem::take(&mut start.shares), served);
    let neighbours = start.neighbours.take();
    let (socket, directory) = neighbours.map(|way| (way.socket, way.directory)).unzip();
    shares.neighbours = directory;
    enter_jail(&start, &mut shares, socket.as_ref(), launcher, may_be_saved)?;
    // Paths begin at the descriptors now.
    start.neighbours = socket
        .zip(shares.neighbours.take())
        .map(|(socket, directory)| Neighbours {
            socket,
            directory,
            prefix: "",
        });
    // A process that is stopped does not see its launcher's sockets close. After the jail, for a change of user unsets it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if !probe::has_virtualisation() {
        // Rare, and worth some milliseconds: in an emulator a kernel takes minutes to fail, or never does.
        probe::probe(start.kvm.try_clone().map_err(VmmError::Memory)?)?;
    }
    let goal = std::mem::replace(&mut start.goal, Goal::Boot);
    let (machine, console) = match &goal {
        Goal::Restore { rest, or_boot } => {
            let machine = rest::restore(start, &shares, rest, *or_boot, timings)?;
            (machine, None)
        }
        Goal::Boot | Goal::Save { .. } => boot(start, &shares, timings)?,
    };
    (timings.entry_tsc, timings.tsc_khz) = machine.clock()?;
    timings.entered = now();
    let mut machine = machine.run(Some(launcher), console)?;
    let mut writer = None::<Writer>;
    loop {
        match machine.serve()? {
            Happening::Ended => break,
            Happening::Control => {}
            Happening::Written => {
                if let Some(writer) = writer.take() {
                    // A launcher that has gone is seen by whoever reads next.
                    let _ = send_word(launcher, &Word::Written(writer.result()));
                }
                continue;
            }
        }
        match (Order::receive(launcher), &goal) {
            (Ok(Order::Hold(rest)), Goal::Boot | Goal::Restore { .. }) if may_be_saved => {
                rest::hold(&machine, rest, launcher);
            }
            // One at a time, as its launcher knows.
            (Ok(Order::Part(rest)), Goal::Boot | Goal::Restore { .. })
                if may_be_saved && writer.is_none() =>
            {
                writer = rest::part(&machine, rest, launcher);
            }
            (Ok(Order::Save), Goal::Save { about, .. }) => {
                let about = about.clone();
                if let Goal::Save { rest, .. } = goal {
                    rest::save(machine, rest, &about)?;
                }
                return Ok((Left::Saved, now()));
            }
            // Its socket was closed.
            _ => break,
        }
    }
    Ok((Left::Running(Box::new(machine)), now()))
}

/// The machine with all its devices, in front of its kernel; and what its console prints, if it has one.
fn boot(
    start: Start,
    shares: &jail::Shares,
    timings: &mut Timings,
) -> Result<(Machine<Paused>, Option<OwnedFd>), VmmError> {
    let memory = GuestMemory::new(start.config.memory).map_err(VmmError::Memory)?;
    let config = start.config.clone();
    let mut machine = Machine::new(start.kvm, start.config, memory)?;
    timings.memory = now();
    plug(&mut machine, start.disks, start.channel, Survivors::Kept)?;
    let ends = Ends {
        ports: start.ports,
        neighbours: start.neighbours,
        journal: start.journal,
        tap: start.tap,
        servers: start.servers,
    };
    plug_network(&mut machine, config.network.clone(), ends)?;
    plug_volumes(&mut machine, &config, shares)?;
    let console = if config.kernel_log {
        Some(console(&mut machine)?)
    } else {
        None
    };
    timings.built = now();
    let machine = machine.boot(start.kernel, start.initramfs)?;
    timings.loaded = now();
    Ok((machine, console))
}

/// The devices that every machine has, in their order: a saved machine's are the same.
fn plug(
    machine: &mut Machine<Built>,
    disks: Vec<DiskFile>,
    channel: OwnedFd,
    survivors: Survivors,
) -> Result<(), VmmError> {
    for (number, disk) in disks.into_iter().enumerate() {
        machine.plug(block(number, disk)?)?;
    }
    machine.plug(Entropy::new())?;
    let vsock = Vsock::new(GUEST_CID, channel).map_err(VmmError::Vsock)?;
    machine.plug(match survivors {
        Survivors::Kept => vsock,
        Survivors::Dropped => vsock.without_survivors(),
    })?;
    machine.plug(Balloon::new())?;
    Ok(())
}

/// What a network card leads to.
struct Ends {
    ports: Vec<network::Port>,
    neighbours: Option<Neighbours>,
    journal: Option<network::Files>,
    tap: Option<OwnedFd>,
    servers: Option<OwnedFd>,
}

/// The network card behind those, if there is one.
fn plug_network(
    machine: &mut Machine<Built>,
    settings: Option<network::Settings>,
    ends: Ends,
) -> Result<(), VmmError> {
    let Some(settings) = settings else {
        return Ok(());
    };
    let mac = settings.mac;
    match ends.tap {
        Some(device) => {
            let tap = Tap::new(device, ends.journal).map_err(VmmError::Network)?;
            machine.plug_for(Server::Network, Net::new(tap, mac))?;
        }
        None => {
            let stack = Stack::new(settings, ends.ports, ends.neighbours, ends.journal);
            let stack = stack.and_then(|stack| match ends.servers {
                Some(host) => stack.heed(host),
                None => Ok(stack),
            });
            let stack = stack.map_err(VmmError::Network)?;
            machine.plug_for(Server::Network, Net::new(stack, mac))?;
        }
    }
    Ok(())
}

/// Whether a machine of this kind can be restored: one whose root is the host's cannot, nor one whose kernel talks to somebody's
/// terminal.
fn may_be_saved(start: &Start) -> bool {
    start.config.root == Root::Image && !start.config.kernel_log
}

/// Gives up all that the machine does not need.
fn enter_jail(
    start: &Start,
    shares: &mut jail::Shares,
    neighbours: Option<&OwnedFd>,
    launcher: BorrowedFd<'_>,
    saves: bool,
) -> Result<(), VmmError> {
    let writes_shares = shares.all.iter().any(|share| !share.read_only);
    let fixed = [&start.kvm, &start.kernel, &start.initramfs, &start.channel];
    let disks = start.disks.iter().map(|disk| &disk.file);
    let rest = start.goal.rest().into_iter();
    let ports = start.ports.iter().map(|port| &port.socket);
    let journal = start.journal.iter();
    let journal = journal.flat_map(|files| [&files.log, &files.counts]);
    let descriptors: Vec<BorrowedFd<'_>> = fixed
        .into_iter()
        .chain(disks)
        .chain(rest.flat_map(|rest| [&rest.machine, &rest.memory]))
        .chain(ports)
        .chain(journal)
        .chain(neighbours)
        .chain(&start.tap)
        .chain(&start.servers)
        .map(AsFd::as_fd)
        .chain([launcher])
        .collect();
    let needs = jail::Needs {
        descriptors: &descriptors,
        // The log is standard error, which may be a file.
        writes: saves
            || writes_shares
            || start.config.kernel_log
            || start.disks.iter().any(|d| !d.read_only),
        saves,
        network: match (&start.config.network, &start.tap) {
            (None, _) => jail::Network::None,
            (Some(_), None) => jail::Network::Sockets,
            (Some(_), Some(_)) => jail::Network::Tap,
        },
        threads: start.config.cpus.count() + u8::from(start.config.network.is_some()),
    };
    let mut missing = jail::enter(&needs, shares);
    missing.extend(jail::missing_from_the_start());
    match start.config.jail {
        jail::Mode::Strict if !missing.is_empty() => {
            let layers: Vec<String> = missing.iter().map(ToString::to_string).collect();
            Err(VmmError::Jail(layers.join("; ")))
        }
        jail::Mode::Strict | jail::Mode::Auto => Ok(()),
    }
}

/// The device that has the volumes, and the root where that is a directory, if there is to be one.
fn plug_volumes(
    machine: &mut Machine<Built>,
    config: &VmConfig,
    shares: &jail::Shares,
) -> Result<(), VmmError> {
    let Some(directory) = shares.descriptors.as_ref().filter(|_| shares.served) else {
        return Ok(());
    };
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().map_err(VmmError::Share);
    let directory = Arc::new(copy(directory)?);
    // What the rest of the process has is left to it.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let flows = if config.network.is_some() {
        network::MOST_DESCRIPTORS
    } else {
        0
    };
    let others = jail::MOST_DESCRIPTORS + flows;
    let open = limit.unwrap_or(0).saturating_sub(others);
    let bounds = fs::Bounds {
        descriptors: usize::try_from(open).unwrap_or(0).max(LEAST_OPEN),
        nodes: usize::try_from(config.memory.bytes() / NODE)
            .unwrap_or(MOST_NODES)
            .min(MOST_NODES),
    };
    let owners = match shares.of_root {
        true => fs::Owners::Same,
        false => fs::Owners::Own,
    };
    let all = shares.all.iter().map(|share| {
        Ok(fs::Share {
            root: copy(&share.root)?,
            read_only: share.read_only,
        })
    });
    let all = all.collect::<Result<_, VmmError>>()?;
    // The working directory.
    let prefix = "";
    let descriptors = fs::Descriptors { directory, prefix };
    let tag = config.root.tag();
    Ok(machine.plug(Fs::new(tag, all, owners, descriptors, bounds))?)
}

fn block(number: usize, disk: DiskFile) -> Result<Block, VmmError> {
    let access = if disk.read_only {
        Access::ReadOnly
    } else {
        Access::Writable
    };
    Block::new(sys::file(disk.file), access, &format!("hull{number}"))
        .map_err(|error| VmmError::Disk(number, error))
}

/// Plugs in the console; gives the end of a pipe where what the guest prints comes out.
fn console(machine: &mut Machine<Built>) -> Result<OwnedFd, VmmError> {
    let pipe = rustix::pipe::pipe_with(
        rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK,
    );
    let (reader, writer) = pipe.map_err(|error| VmmError::Console(error.into()))?;
    machine.plug(Console::new(writer, None).map_err(VmmError::Console)?)?;
    Ok(reader)
}

/// The error and all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Nanoseconds of the clock that launcher and VMM share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests;

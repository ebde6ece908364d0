//! A VMM's machine at rest: made again from two files, or written to them. Knows descriptors, and no paths.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::writer::Writer;
use super::{
    Order, Rest, Start, Survivors, VmmError, Word, boot, chain, now, plug, plug_network,
    plug_volumes, send_word,
};
use crate::jail::Shares;
use crate::machine::memory::{GuestMemory, Pages};
use crate::machine::report::Timings;
use crate::machine::state::MachineState;
use crate::machine::{Machine, Paused, Running};
use crate::snapshot::{self, FormatError, Parts};
use crate::sys;

/// The machine as it was saved; where that is impossible, if it may, one that boots, with a remark that says why.
pub(super) fn restore(
    start: Start,
    shares: &Shares,
    rest: &Rest,
    or_boot: bool,
    timings: &mut Timings,
) -> Result<Machine<Paused>, VmmError> {
    let survivors = match or_boot {
        // Of a template one connection goes on.
        true => Survivors::Kept,
        false => Survivors::Dropped,
    };
    match pour(&start, shares, rest, survivors, timings) {
        Ok(machine) => {
            timings.restored = true;
            Ok(machine)
        }
        Err(error) if !or_boot => Err(error),
        Err(error) => {
            let (machine, _) = boot(start, shares, timings)?;
            machine.remark(format!("The saved machine is of no use: {}", chain(&error)));
            Ok(machine)
        }
    }
}

/// The same, or why not.
pub(super) fn pour(
    start: &Start,
    shares: &Shares,
    rest: &Rest,
    survivors: Survivors,
    timings: &mut Timings,
) -> Result<Machine<Paused>, VmmError> {
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().map_err(VmmError::Memory);
    let bytes = snapshot::read(&sys::file(copy(&rest.machine)?))?;
    let parts = snapshot::decode(&bytes)?;
    let state: MachineState = postcard::from_bytes(parts.state).map_err(FormatError::from)?;
    let memory = GuestMemory::copy_of(start.config.memory, copy(&rest.memory)?);
    let memory = memory.map_err(VmmError::Memory)?;
    memory.own(&Pages::decode(parts.pages));
    let mut machine = Machine::new(copy(&start.kvm)?, start.config.clone(), memory)?;
    timings.memory = now();
    let disks = start.disks.iter().map(|disk| {
        let file = copy(&disk.file)?;
        let read_only = disk.read_only;
        Ok(super::DiskFile { file, read_only })
    });
    let disks = disks.collect::<Result<_, VmmError>>()?;
    plug(&mut machine, disks, copy(&start.channel)?, survivors)?;
    let ports = start.ports.iter().map(|port| {
        let socket = copy(&port.socket)?;
        Ok(network::Port { socket, ..*port })
    });
    let ports = ports.collect::<Result<_, VmmError>>()?;
    let journal = start.journal.as_ref().map(|files| {
        Ok::<_, VmmError>(network::Files {
            log: copy(&files.log)?,
            counts: copy(&files.counts)?,
        })
    });
    let neighbours = start.neighbours.as_ref().map(|way| {
        Ok::<_, VmmError>(network::Neighbours {
            socket: copy(&way.socket)?,
            directory: copy(&way.directory)?,
            prefix: way.prefix,
        })
    });
    let (neighbours, journal) = (neighbours.transpose()?, journal.transpose()?);
    let settings = start.config.network.clone();
    let tap = start.tap.as_ref().map(copy).transpose()?;
    let servers = start.servers.as_ref().map(copy).transpose()?;
    let ends = super::Ends {
        ports,
        neighbours,
        journal,
        tap,
        servers,
    };
    plug_network(&mut machine, settings, ends)?;
    plug_volumes(&mut machine, &start.config, shares)?;
    timings.built = now();
    let machine = machine.restore(&state)?;
    timings.loaded = now();
    Ok(machine)
}

/// Stops the machine and writes it down.
pub(super) fn save(machine: Machine<Running>, rest: Rest, about: &[u8]) -> Result<(), VmmError> {
    let machine = machine.pause()?;
    write(&machine.save()?, machine.memory(), rest, about)
}

/// Holds the machine, writes it down, and lets it go on when the launcher says so, or has gone.
pub(super) fn hold(machine: &Machine<Running>, rest: Rest, launcher: BorrowedFd<'_>) {
    hold_for(machine, launcher, |state| {
        write(state, machine.memory(), rest, &[])
    });
}

/// The same with a process that writes the memory, beside the machine that goes on; [`Machine::serve`] tells when it has ended.
pub(super) fn part(
    machine: &Machine<Running>,
    rest: Rest,
    launcher: BorrowedFd<'_>,
) -> Option<Writer> {
    let mut writer = None;
    hold_for(machine, launcher, |state| {
        write_state(state, rest.machine, &[])?;
        let begun = Writer::begin(machine.memory(), rest.memory).map_err(VmmError::Part)?;
        let watched = machine.watch_writer(begun.as_fd());
        watched.map_err(VmmError::Part)?;
        writer = Some(begun);
        Ok(())
    });
    writer
}

fn hold_for(
    machine: &Machine<Running>,
    launcher: BorrowedFd<'_>,
    write: impl FnOnce(&MachineState) -> Result<(), VmmError>,
) {
    let tell = |written: Result<(), VmmError>| {
        let told = written.map_err(|error| chain(&error));
        // A launcher that has gone is seen by whoever reads next.
        let _ = send_word(launcher, &Word::Held(told));
    };
    let held = machine.hold(|state| {
        let written = state
            .map_err(VmmError::from)
            .and_then(|state| write(&state));
        let is_written = written.is_ok();
        tell(written);
        if is_written {
            let _ = Order::receive(launcher);
        }
    });
    if let Err(error) = held {
        tell(Err(error.into()));
    }
}

fn write(
    state: &MachineState,
    memory: &GuestMemory,
    rest: Rest,
    about: &[u8],
) -> Result<(), VmmError> {
    write_state(state, rest.machine, about)?;
    let written = memory.write_to(&sys::file(rest.memory));
    written.map_err(VmmError::Save)
}

/// Writes everything but memory.
fn write_state(state: &MachineState, file: OwnedFd, about: &[u8]) -> Result<(), VmmError> {
    let state = postcard::to_allocvec(state).map_err(FormatError::from)?;
    let bytes = snapshot::encode(&Parts {
        about,
        pages: &[],
        state: &state,
    });
    let written = sys::file(file).write_all(&bytes);
    written.map_err(VmmError::Save)
}

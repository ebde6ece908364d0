//! What every run from a template does to its memory, found out once: a machine that nobody gets begins with it, furnishes
//! the container, and runs guest init's own program, which ends at once. No program of the image runs.

use std::fs::File;
use std::io::Seek;
use std::os::fd::AsFd;
use std::time::Instant;

use protocol::{AGENT_PORT, Container, FromGuest, FromHost, Process};
use rustix::fs::MemfdFlags;

use super::{LIMIT, MakeError, wait};
use crate::agent::{self, Connection, Next, Task};
use crate::launch::{Accepted, Vmm};
use crate::snapshot::draft::Draft;
use crate::supervise::Own;
use crate::template::Model;
use crate::vmm::{Goal, Order, Rest, Word};

/// Guest init's program, which does nothing where it is not the first process.
const PROGRAM: &[u8] = b"/proc/self/exe";

/// Writes into the template which pages are to be each copy's own from the beginning.
pub(super) fn rehearse(
    draft: &Draft,
    model: &Model<'_>,
    disk: Option<File>,
    task: &Task,
) -> Result<(), MakeError> {
    // Where the file is read goes on where it was written, in all processes.
    (&draft.machine).rewind()?;
    let goal = Goal::Restore {
        rest: draft.rest()?,
        or_boot: true,
    };
    let own = Own {
        disk,
        ..Own::default()
    };
    let mut vmm = (model.parts)
        .launch(&model.machine.shape(), own, goal)
        .map_err(MakeError::Boot)?;
    let deadline = Instant::now() + LIMIT;
    let played = play(&mut vmm, task, deadline).and_then(|()| memory(&mut vmm, deadline));
    vmm.kill();
    Ok(draft.learn(&played?)?)
}

/// Runs the container until its process has ended. The machine waits then for its host to take note.
fn play(vmm: &mut Vmm, task: &Task, deadline: Instant) -> Result<(), MakeError> {
    let mut control: Option<Connection> = None;
    // Nothing is to come of the process's output.
    let mut streams = Vec::new();
    loop {
        let stream = control.as_ref().map(|control| control.stream.as_fd());
        let sources = [vmm.channel_fd(), vmm.report_fd()];
        let sources: Vec<_> = sources.into_iter().chain(stream).collect();
        wait(&sources, deadline)?;
        match vmm.accept() {
            Ok(Some(accepted)) if accepted.survived && accepted.port == AGENT_PORT => {
                control = Some(begin(accepted, task)?);
            }
            Ok(Some(accepted)) => streams.push(accepted.stream),
            Ok(None) => return Err(MakeError::Died),
            // It was not for this that the wait ended.
            Err(_) => {}
        }
        let Some(control) = &mut control else {
            continue;
        };
        match control.next::<FromGuest>()? {
            Next::Message(FromGuest::Exited { .. }) => return Ok(()),
            Next::Message(FromGuest::Started { .. }) | Next::Incomplete => {}
            Next::Message(_) => return Err(MakeError::Protocol),
            Next::End => return Err(MakeError::Died),
        }
    }
}

fn begin(accepted: Accepted, task: &Task) -> Result<Connection, MakeError> {
    let process = Process {
        argv: vec![PROGRAM.into()],
        stdin: false,
        terminal: None,
        user: "".into(),
        groups: Vec::new(),
        filters: Vec::new(),
        cwd: "".into(),
        ..task.process.clone()
    };
    // There is nothing of the host's in this machine.
    let container = Container {
        volumes: Vec::new(),
        ..task.container.clone()
    };
    let mut control = Connection::new(accepted.stream)?;
    control.send(&FromHost::Renew(agent::renewal(None)?))?;
    control.send(&FromHost::Run { container, process })?;
    Ok(control)
}

/// The machine's memory as it is.
fn memory(vmm: &mut Vmm, deadline: Instant) -> Result<File, MakeError> {
    let file = |name| rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC);
    let (machine, memory) = (file("machine")?, file("memory")?);
    let written = memory.as_fd().try_clone_to_owned()?;
    vmm.order(&Order::Hold(Rest { machine, memory }))?;
    wait(&[vmm.report_fd()], deadline)?;
    match vmm.word() {
        Ok(Word::Held(Ok(()))) => Ok(written.into()),
        Ok(_) => Err(MakeError::Protocol),
        Err(_) => Err(MakeError::Died),
    }
}

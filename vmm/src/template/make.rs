//! Makes a template: boots a machine without a container, waits until its init rests, and has it saved. Bounded in time;
//! whatever goes wrong, nothing is left.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use protocol::{AGENT_PORT, FrameError, FromGuest, FromHost, Opening};
use rustix::io::Errno;

use super::{Key, Templates};
use crate::agent::{Connection, Next, Task, ready};
use crate::config::VmConfig;
use crate::failure::Failure;
use crate::launch::{Died, Vmm};
use crate::machine::report::End;
use crate::snapshot::FormatError;
use crate::snapshot::draft::Draft;
use crate::supervise::{Own, Parts};
use crate::vmm::{Goal, Order, StartError};

mod rehearsal;

/// A boot takes tens of milliseconds, on an emulated processor seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// What a kernel still does once its init waits: deferred work of the boot. Later it would be done in every copy.
const SETTLING: Duration = Duration::from_millis(30);

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("Writing the template failed")]
    Write(#[from] std::io::Error),
    #[error("{}", .0.line())]
    Boot(Failure),
    #[error(transparent)]
    Order(#[from] StartError),
    #[error("Waiting for the guest failed")]
    Wait(#[from] Errno),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("The guest was not ready within {} seconds", LIMIT.as_secs())]
    Silent,
    #[error("The guest broke the agent protocol")]
    Protocol,
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("The machine ended before it was saved: {0:?}")]
    Ended(End),
    #[error("The VMM process died")]
    Died,
}

/// Makes the template of this name, for the next run that resembles this one, unless there is one or somebody is making it.
pub(crate) fn make(
    templates: &Templates,
    key: &Key,
    config: &VmConfig,
    parts: &Parts,
    task: &Task,
) -> Result<(), MakeError> {
    let Some(draft) = templates.begin(key)? else {
        return Ok(());
    };
    fill(&draft, key, config, parts, task)?;
    // Without it the copies are only slower.
    let _ = rehearsal::rehearse(&draft, config, parts, task);
    draft.finish()?;
    templates.evict(key);
    Ok(())
}

fn fill(
    draft: &Draft,
    key: &Key,
    config: &VmConfig,
    parts: &Parts,
    task: &Task,
) -> Result<(), MakeError> {
    let goal = Goal::Save {
        rest: draft.rest()?,
        about: key.about().to_vec(),
    };
    let mut vmm = parts
        .launch(&config.shape(), Own::default(), goal)
        .map_err(MakeError::Boot)?;
    let made = save(&mut vmm, task, Instant::now() + LIMIT);
    // It may be deaf to the end of its sockets, and has nothing to lose.
    vmm.kill();
    made
}

fn save(vmm: &mut Vmm, task: &Task, deadline: Instant) -> Result<(), MakeError> {
    let mut control = accept(vmm, deadline)?;
    match next::<Opening>(&mut control, vmm, deadline)? {
        Opening::Hello(_) => {}
        Opening::Attach(_) => return Err(MakeError::Protocol),
    }
    let mut path = task.process.env.iter().rev();
    let path = path.find_map(|variable| variable.0.strip_prefix(b"PATH="));
    control.send(&FromHost::ReadAhead {
        program: task.process.argv.first().cloned().unwrap_or_default(),
        path: path.unwrap_or_default().into(),
    })?;
    control.send(&FromHost::Rest)?;
    match next::<FromGuest>(&mut control, vmm, deadline)? {
        FromGuest::Resting => {}
        _ => return Err(MakeError::Protocol),
    }
    // Nothing is to come from it any more: what comes is a failure, and its end one too.
    wait(
        &[control.stream.as_fd(), vmm.report_fd()],
        Instant::now() + SETTLING,
    )
    .or_else(silence)?;
    vmm.order(&Order::Save)?;
    wait(&[vmm.report_fd()], deadline)?;
    match vmm.report() {
        Ok(report) if report.end == End::Saved => Ok(()),
        Ok(report) => Err(MakeError::Ended(report.end)),
        Err(Died(_)) => Err(MakeError::Died),
    }
}

fn silence(error: MakeError) -> Result<(), MakeError> {
    match error {
        MakeError::Silent => Ok(()),
        error => Err(error),
    }
}

/// Until one of them can be read.
fn wait(descriptors: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), MakeError> {
    loop {
        let sources = descriptors.iter().map(|descriptor| ((), *descriptor));
        if !ready(sources.collect(), Some(deadline))?.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(MakeError::Silent);
        }
    }
}

/// The first connection of guest init's.
fn accept(vmm: &Vmm, deadline: Instant) -> Result<Connection, MakeError> {
    loop {
        wait(&[vmm.channel_fd(), vmm.report_fd()], deadline)?;
        match vmm.accept() {
            Ok(Some(accepted)) if accepted.port == AGENT_PORT => {
                return Ok(Connection::new(accepted.stream)?);
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return Err(MakeError::Died),
        }
    }
}

/// The next whole message, as long as the machine lives.
fn next<M: protocol::Message>(
    control: &mut Connection,
    vmm: &Vmm,
    deadline: Instant,
) -> Result<M, MakeError> {
    loop {
        match control.next::<M>()? {
            Next::Message(message) => return Ok(message),
            Next::End => return Err(MakeError::Died),
            Next::Incomplete => wait(&[control.stream.as_fd(), vmm.report_fd()], deadline)?,
        }
    }
}

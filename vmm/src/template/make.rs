//! Makes a template: boots a machine without a container, waits until its init rests, and has it saved. Bounded in time;
//! whatever goes wrong, nothing is left.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use protocol::{AGENT_PORT, FrameError, FromGuest, FromHost, Opening};
use rustix::io::Errno;

use super::{Key, Model, Templates};
use crate::agent::{Connection, Next, Task, ready};
use crate::container::storage;
use crate::failure::Failure;
use crate::launch::Vmm;
use crate::machine::report::End;
use crate::snapshot::FormatError;
use crate::snapshot::draft::Draft;
use crate::supervise::Own;
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
    Write(#[from] io::Error),
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
    model: &Model<'_>,
    task: &Task,
) -> Result<(), MakeError> {
    let Some(draft) = templates.begin(key)? else {
        return Ok(());
    };
    let disk = blank(&draft, model.storage)?;
    fill(&draft, key, model, disk.as_ref(), task)?;
    // Without it the copies are only slower.
    let _ = rehearsal::rehearse(&draft, model, disk, task);
    draft.finish()?;
    templates.evict(key);
    Ok(())
}

/// A disk as of a container that never ran, without a name, if there is to be one.
fn blank(draft: &Draft, bytes: u64) -> io::Result<Option<File>> {
    if bytes == 0 {
        return Ok(None);
    }
    let disk = draft.scratch()?;
    storage::format(&disk, bytes, [0; 16], 0)?;
    Ok(Some(disk))
}

/// The same disk, of which nothing can be read: whatever a kernel looks for on it before its machine is saved, it gets no byte that
/// a copy with another disk would then know.
fn unreadable(disk: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", disk.as_raw_fd());
    File::options().write(true).open(path)
}

fn fill(
    draft: &Draft,
    key: &Key,
    model: &Model<'_>,
    disk: Option<&File>,
    task: &Task,
) -> Result<(), MakeError> {
    let goal = Goal::Save {
        rest: draft.rest()?,
        about: key.about().to_vec(),
    };
    let own = Own {
        disk: disk.map(unreadable).transpose()?,
        ..Own::default()
    };
    let mut vmm = (model.parts)
        .launch(&model.machine.shape(), own, goal)
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
    control.send(&FromHost::Rest { sync: false })?;
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
        Err(_) => Err(MakeError::Died),
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

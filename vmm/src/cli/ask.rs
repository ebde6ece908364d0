//! What the verbs ask of containers' supervisors, and what they do for each of several containers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::names;
use crate::container::{Config, Container, ContainerError, Containers, Status};
use crate::control::{Answer, ControlError, Ended, Request, Socket};
use crate::failure::Failure;
use crate::{session, signal, store};

#[cfg(test)]
mod tests;

/// How long a guest has to obey SIGKILL before its virtual machine is ended.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long a supervisor has to go once its container has ended, or to answer.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(10);

/// All containers of this user.
pub(super) fn containers(root: Option<PathBuf>) -> Result<Containers, Failure> {
    let directory = store::directory(root)?;
    // The directory is made, with its owner checked.
    image::Store::open(&directory)?;
    Ok(Containers::open(&directory)?)
}

/// The container that is meant.
pub(super) fn find(containers: &Containers, text: &str) -> Result<Container, Failure> {
    containers.find(text).map_err(not_found)
}

/// Why a container was not found, and what helps.
pub(super) fn not_found(error: ContainerError) -> Failure {
    let hint = match &error {
        ContainerError::Unknown(_) => "`hull ps --all` lists what there is.",
        ContainerError::Ambiguous(_) => "Give more digits of the id.",
        ContainerError::Damaged { .. } => {
            "Nothing can be done with this container any more: remove the directory of that file."
        }
        _ => return Failure::new(error).code(1),
    };
    Failure::new(error).code(1).hint(hint)
}

/// Does something to each of these containers and prints what they were called by; one that fails does not keep the others.
pub(super) fn each(
    root: Option<PathBuf>,
    names: &[String],
    mut act: impl FnMut(&Containers, Container) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let containers = containers(root)?;
    let names = names.iter().map(String::as_str);
    Ok(names::each(names, |name| {
        act(&containers, find(&containers, name)?)?;
        Ok(true)
    }))
}

/// A connection to the container's supervisor, which has answered; none where it has none.
pub(super) fn connect(container: &Container) -> Result<Option<Socket>, Failure> {
    let start = Instant::now();
    while let Some(left) = SUPERVISOR_LIMIT.checked_sub(start.elapsed()) {
        match greet(container, left) {
            Ok(socket) => return Ok(Some(socket)),
            // It does not listen yet, or no more: soon it does, or is gone and has written down how it ended.
            Err(
                ControlError::Closed
                | ControlError::Socket(Errno::CONNREFUSED | Errno::NOENT | Errno::PIPE),
            ) => {
                if container.wait_for_supervisor(Duration::from_millis(5)) {
                    return Ok(None);
                }
            }
            Err(ControlError::Socket(Errno::AGAIN | Errno::TIMEDOUT)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Err(silent(container))
}

/// A connection to who listens for the container, which answers within this time.
fn greet(container: &Container, limit: Duration) -> Result<Socket, ControlError> {
    let socket = Socket::connect(container.directory())?;
    socket.send(&Request::Greet, None)?;
    let start = Instant::now();
    while let Some(left) = limit.checked_sub(start.elapsed()) {
        if let Some(Answer::Done) = next(&socket, Some(left))? {
            return Ok(socket);
        }
    }
    Err(ControlError::Socket(Errno::TIMEDOUT))
}

/// Somebody has stopped the supervisor, or the host has no time for it.
fn silent(container: &Container) -> Failure {
    let Config { name, .. } = &container.config;
    let text = format!("The supervisor of container {name} does not answer");
    let failure = Failure::new(text).code(1);
    match container.state().pid {
        0 => failure,
        pid => failure.hint(format!(
            "If somebody has stopped it, `kill -CONT {pid}` lets it go on; `kill -KILL {pid}` ends the container.",
        )),
    }
}

/// A connection to the supervisor of a container that must run, and not be paused.
pub(super) fn awake(container: &Container) -> Result<Socket, Failure> {
    let socket = running(container)?;
    match container.state().status {
        Status::Paused => {
            let name = &container.config.name;
            Err(Failure::new(format!("Container {name} is paused"))
                .code(1)
                .hint(format!("`hull unpause {name}` lets it go on.")))
        }
        _ => Ok(socket),
    }
}

/// A connection to the supervisor of a container that must run.
pub(super) fn running(container: &Container) -> Result<Socket, Failure> {
    connect(container)?.ok_or_else(|| {
        let name = &container.config.name;
        Failure::new(format!("Container {name} does not run"))
            .hint(format!("`hull start {name}` starts it."))
    })
}

/// Asks for something and waits until it is done.
pub(super) fn ask(socket: &Socket, request: &Request) -> Result<(), Failure> {
    match answer(socket, request)? {
        Answer::Refused(why) => Err(Failure::new(why)),
        _ => Ok(()),
    }
}

/// Asks for something and waits for what becomes of it.
pub(super) fn answer(socket: &Socket, request: &Request) -> Result<Answer, Failure> {
    socket.send(request, None)?;
    let start = Instant::now();
    while let Some(left) = SUPERVISOR_LIMIT.checked_sub(start.elapsed()) {
        match next(socket, Some(left))? {
            None | Some(Answer::Started | Answer::Stream(..) | Answer::Stdin) => {}
            Some(answer) => return Ok(answer),
        }
    }
    Err(Failure::new("The container's supervisor does not answer"))
}

/// Waits until the process that the connection is about runs.
pub(super) fn started(socket: &Socket) -> Result<(), Failure> {
    loop {
        match next(socket, None)? {
            Some(Answer::Started) => return Ok(()),
            Some(Answer::Ended(ended)) => return ended.result.map(drop),
            Some(Answer::Refused(why)) => return Err(Failure::new(why)),
            _ => {}
        }
    }
}

/// The same of a further process, which a guest that runs starts at once or never.
pub(super) fn starts(socket: &Socket) -> Result<(), Failure> {
    let start = Instant::now();
    while let Some(left) = session::START_LIMIT.checked_sub(start.elapsed()) {
        match next(socket, Some(left))? {
            Some(Answer::Started) => return Ok(()),
            Some(Answer::Ended(ended)) => return ended.result.map(drop),
            Some(Answer::Refused(why)) => return Err(Failure::new(why)),
            _ => {}
        }
    }
    Err(Failure::new("The guest does not answer"))
}

/// Waits for the end of what the connection is about, for so long at most.
pub(super) fn ended(
    socket: &Socket,
    limit: Option<Duration>,
) -> Result<Option<Ended>, ControlError> {
    let start = Instant::now();
    loop {
        let left = match limit {
            Some(limit) => match limit.checked_sub(start.elapsed()) {
                Some(left) => Some(left),
                None => return Ok(None),
            },
            None => None,
        };
        if let Some(Answer::Ended(ended)) = next(socket, left)? {
            return Ok(Some(*ended));
        }
    }
}

fn next(socket: &Socket, limit: Option<Duration>) -> Result<Option<Answer>, ControlError> {
    use std::os::fd::AsFd;
    let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut ready = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    match poll(&mut ready, timeout.as_ref()) {
        Ok(0) | Err(Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(socket.receive(false)?.map(|(answer, _)| answer))
}

/// Ends a container as it wants to be ended: with a signal, after `grace` with SIGKILL, and a guest that does not obey that
/// with its virtual machine.
pub(super) fn stop(container: &Container, signal: u8, grace: Duration) -> Result<(), Failure> {
    let Some(socket) = connect(container)? else {
        return Ok(());
    };
    let asked = end(container, &socket, signal, grace);
    match container.wait_for_supervisor(SUPERVISOR_LIMIT) {
        // It may have ended before all was asked.
        true => Ok(()),
        false => asked.and(Err(Failure::new(
            "The container's supervisor goes on after the end",
        ))),
    }
}

fn end(container: &Container, socket: &Socket, signal: u8, grace: Duration) -> Result<(), Failure> {
    socket.send(&Request::Wait, None)?;
    if container.state().status == Status::Paused {
        socket.send(&Request::Unpause, None)?;
    }
    for (signal, limit) in [(signal, grace), (signal::KILL, KILL_LIMIT)] {
        socket.send(&Request::Signal(signal), None)?;
        if ended(socket, Some(limit))?.is_some() {
            return Ok(());
        }
    }
    socket.send(&Request::Destroy, None)?;
    match ended(socket, Some(SUPERVISOR_LIMIT))? {
        Some(_) => Ok(()),
        None => Err(Failure::new("The container's supervisor does not answer")),
    }
}

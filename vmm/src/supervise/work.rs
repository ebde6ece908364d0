//! A machine for one piece of work on a container that does not run.

use std::process;

use protocol::Work;

use super::{Own, Parts, ended, leave_the_user};
use crate::agent::{Agent, Client, Signals, Task, Watcher};
use crate::config::VmConfig;
use crate::container::{Container, Supervision};
use crate::control::{Ended, Request, Socket};
use crate::failure::Failure;
use crate::launch::Outside;
use crate::vmm::Goal;
use crate::{sys, volume};

/// Boots a machine with the disks of a container that does not run, in a process of its own, for this one piece of work.
/// Gives a connection that is attached to it. To be called while this process has one thread.
#[expect(clippy::exit, reason = "the child of a fork has nothing to go back to")]
pub(crate) fn work(
    container: &Container,
    supervision: Supervision,
    mut task: Task,
    parts: &Parts,
    work: Work,
) -> Result<Socket, Failure> {
    let (ours, theirs) = Socket::pair()?;
    let (stdin, bound) = (matches!(work, Work::Unpack { .. }), true);
    ours.send(&Request::Attach { stdin, bound }, None)?;
    (task.process.stdin, task.process.terminal) = (stdin, None);
    match sys::fork()? {
        sys::Forked::Parent => Ok(ours),
        sys::Forked::Child => {
            drop(ours);
            leave_the_user(container.config.machine.kernel_log);
            let mut clients = vec![Client::first(theirs)];
            let ended = alone(container, task, parts, work, &mut clients);
            drop(supervision);
            for client in clients {
                client.ended(&ended);
            }
            process::exit(0);
        }
    }
}

/// The life of a machine that is for one piece of work.
fn alone(
    container: &Container,
    mut task: Task,
    parts: &Parts,
    work: Work,
    clients: &mut Vec<Client>,
) -> Ended {
    // It runs nothing that could want a network.
    task.container.network = None;
    let machine = VmConfig {
        network: None,
        volumes: false,
        ..container.config.machine.clone()
    };
    let booted = Signals::catch().map_err(Failure::from);
    let booted = booted.and_then(|signals| {
        // Its root, and no volume.
        let shares = container.config.rootfs.iter().map(volume::share);
        let own = Own {
            outside: Outside {
                shares: shares.collect::<Result<_, _>>()?,
                ..Outside::default()
            },
            disk: container.disk()?,
        };
        Ok((signals, parts.launch(&machine, own, Goal::Boot)?))
    });
    let (mut signals, mut vmm) = match booted {
        Ok(booted) => booted,
        Err(failure) => return ended(Err(failure)),
    };
    let mut told = false;
    let watcher = Watcher {
        container: None,
        listener: None,
        clients,
        told: &mut told,
    };
    let agent = Agent::new(&mut vmm, task, &mut signals, watcher, &None);
    match agent.of_work(work).run() {
        Ok(outcome) => ended(Ok(outcome.status)),
        Err(error) => {
            vmm.kill();
            ended(Err(error.into_failure()))
        }
    }
}

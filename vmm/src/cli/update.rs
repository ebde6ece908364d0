//! `hull update`: other bounds or another restart policy for containers that are there. What runs is bounded at once as far as its
//! machine goes; the machine itself has another size from its next start on.

use std::path::PathBuf;
use std::process::ExitCode;

use protocol::Bounds;

use super::{Size, ask};
use crate::config::Memory;
use crate::container::{Container, Restart};
use crate::control::{Answer, Request};
use crate::failure::Failure;
use crate::plan;
use crate::policy::Policy;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Memory: at once up to what the machine was started with, all of it from the next start on
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Processors, 1 to 16: at once up to those the machine was started with, all of them from the next start on
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// How many processes and threads there may be at once, from now on; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// When to start the container again after its end, from now on
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let memory = args.memory.map(plan::memory).transpose()?;
    let cpus = args.cpus.as_deref().map(plan::cpus).transpose()?;
    let pids = args.pids_limit.map(plan::pids);
    let bounds = Bounds {
        memory: memory.map(Memory::bytes),
        cpus: cpus.map(|cpus| cpus.count().into()),
        pids: pids.map(|most| most.unwrap_or(u64::MAX)),
    };
    let bounded = bounds != Bounds::default();
    if !bounded && args.restart.is_none() {
        return Err(Failure::new("Nothing is to be changed")
            .hint("There are --memory, --cpus, --pids-limit and --restart."));
    }
    let policy = Policy::of_system()?;
    ask::each(root, &args.containers, |containers, mut container| {
        let mut config = container.config.clone();
        config.machine.memory = memory.unwrap_or(config.machine.memory);
        config.machine.cpus = cpus.unwrap_or(config.machine.cpus);
        config.restart = args.restart.unwrap_or(config.restart);
        policy.permits_shape(&config.machine, config.own_network())?;
        if config.remove && config.restart != Restart::No {
            return Err(Failure::new(
                "What is removed at its end cannot be started again",
            ));
        }
        containers.change(&mut container, config, pids)?;
        match bounded {
            true => bound(&container, &bounds),
            false => Ok(()),
        }
    })
}

/// Bounds what runs, and says what of it has to wait.
fn bound(container: &Container, bounds: &Bounds) -> Result<(), Failure> {
    let Some(socket) = ask::connect(container)? else {
        return Ok(());
    };
    let name = &container.config.name;
    let (memory, cpus) = match ask::answer(&socket, &Request::Bound(bounds.clone()))? {
        Answer::Bounded { memory, cpus } => (memory, cpus),
        Answer::Refused(why) => {
            eprintln!("note: {name} is bounded when it is started again: {why}");
            return Ok(());
        }
        _ => return Ok(()),
    };
    let more = |wanted: Option<u64>, all| wanted.is_some_and(|wanted| wanted > all);
    if more(bounds.memory, memory) || more(bounds.cpus, cpus.into()) {
        eprintln!(
            "note: {name} runs in a machine of {} MiB and {cpus} processors until it is started again (`hull restart {name}`)",
            memory >> 20
        );
    }
    Ok(())
}

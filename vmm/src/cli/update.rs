//! `hull update`: another size or restart policy for containers that are there.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Size, ask};
use crate::container::Restart;
use crate::failure::Failure;
use crate::plan;
use crate::policy::Policy;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Memory of the virtual machine, from its next start on
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Virtual processors, 1 to 16, from its next start on
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// When to start the container again after its end, from now on
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    if args.memory.is_none() && args.cpus.is_none() && args.restart.is_none() {
        return Err(Failure::new("Nothing is to be changed")
            .hint("There are --memory, --cpus and --restart."));
    }
    let memory = args.memory.map(plan::memory).transpose()?;
    let cpus = args.cpus.as_deref().map(plan::cpus).transpose()?;
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
        let waits = config.machine != container.config.machine && container.is_supervised();
        containers.change(&mut container, config)?;
        if waits {
            let name = &container.config.name;
            eprintln!(
                "note: {name} runs in a machine of its old size until it is started again (`hull restart {name}`)"
            );
        }
        Ok(())
    })
}

//! `hull rm`, `rename` and `container prune`: containers that nobody needs, or needs by another name.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::ps::{self, Filter};
use super::{ask, names};
use crate::container::{Container, ContainerError};
use crate::failure::Failure;
use crate::{networks, signal, volume};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End containers that run, and take it well when there is none of a name
    #[arg(short, long)]
    force: bool,
    /// Remove also their volumes that nobody named
    #[arg(short, long)]
    volumes: bool,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RenameArgs {
    /// Container: a name, an id, or the beginning of one
    container: String,
    /// Its new name
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Only what fits: label=KEY[=VALUE], name=, exited=CODE, …
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Accepted for docker's sake: nothing is asked
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let names = args.containers.iter().map(String::as_str);
    Ok(names::each(names, |name| {
        let container = match containers.find(name) {
            Err(ContainerError::Unknown(_)) if args.force => return Ok(false),
            found => found.map_err(ask::not_found)?,
        };
        if args.force {
            ask::stop(&container, signal::KILL, Duration::ZERO)?;
        }
        match remove(&container) {
            // By somebody else meanwhile, or at its end, as it was to be.
            Err(_) if (args.force || container.config.remove) && !container.is_there() => {}
            removed => removed?,
        }
        if args.volumes {
            volume::remove_anonymous(&container.config.volumes);
        }
        Ok(true)
    }))
}

fn remove(container: &Container) -> Result<(), Failure> {
    let supervision = container.supervise().map_err(|error| match error {
        ContainerError::Running(name) => Failure::new(format!("Container {name} runs"))
            .hint("Stop it first, or remove it with --force."),
        error => error.into(),
    })?;
    Ok(container.remove(&supervision)?)
}

pub(super) fn rename(args: &RenameArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let mut container = ask::find(&containers, &args.container)?;
    containers
        .rename(&mut container, &args.name)
        .map_err(|error| Failure::new(error).code(1))?;
    if container.is_supervised() {
        networks::call(&container)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn prune(args: &PruneArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for container in ask::containers(root)?.list()? {
        if container.is_supervised() || !ps::fits(&args.filter, &container, &container.state()) {
            continue;
        }
        match remove(&container) {
            Ok(()) => println!("{}", container.config.id),
            Err(failure) => code = failure.code(1).report(),
        }
    }
    Ok(code)
}

//! `hull container …`: docker's other spelling of the verbs for containers, and those it has only here.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Verb;
use super::rm::{self, PruneArgs};
use super::{
    commit, cp, create, diff, exec, inspect, logs, port, ps, run, start, stats, stop, top, update,
};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: ContainerVerb,
}

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
enum ContainerVerb {
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Make a container without starting it
    Create(Box<create::Args>),
    /// Start containers
    Start(start::Args),
    /// Stop containers
    Stop(stop::Args),
    /// Stop containers and start them again
    Restart(start::RestartArgs),
    /// Send containers a signal
    Kill(stop::KillArgs),
    /// Stop containers where they are
    Pause(stop::Names),
    /// Let paused containers go on
    Unpause(stop::Names),
    /// Wait for containers' ends and print their exit codes
    Wait(stop::Names),
    /// Run a further command in a container
    Exec(exec::Args),
    /// Take part in a container's output, input and end
    Attach(exec::AttachArgs),
    /// Copy files between a container and the host
    Cp(cp::Args),
    /// Show what a container has changed of its image's files
    Diff(diff::Args),
    /// Write a container's file system as a tar
    Export(cp::ExportArgs),
    /// Make an image of a container's file system
    Commit(Box<commit::Args>),
    /// List the processes of a container
    Top(top::Args),
    /// Show what a container has printed
    Logs(logs::Args),
    /// List the containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Show where a container's ports are published
    Port(port::Args),
    /// Show everything that is known of containers
    Inspect(inspect::Args),
    /// Show what containers take of the host
    Stats(stats::Args),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Give a container another name
    Rename(rm::RenameArgs),
    /// Give containers another size or restart policy
    Update(update::Args),
    /// Remove all containers that do not run
    Prune(PruneArgs),
}

pub(super) fn run(args: Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    super::dispatch(
        match args.verb {
            ContainerVerb::Run(args) => Verb::Run(args),
            ContainerVerb::Create(args) => Verb::Create(args),
            ContainerVerb::Start(args) => Verb::Start(args),
            ContainerVerb::Stop(args) => Verb::Stop(args),
            ContainerVerb::Restart(args) => Verb::Restart(args),
            ContainerVerb::Kill(args) => Verb::Kill(args),
            ContainerVerb::Pause(args) => Verb::Pause(args),
            ContainerVerb::Unpause(args) => Verb::Unpause(args),
            ContainerVerb::Wait(args) => Verb::Wait(args),
            ContainerVerb::Exec(args) => Verb::Exec(args),
            ContainerVerb::Attach(args) => Verb::Attach(args),
            ContainerVerb::Cp(args) => Verb::Cp(args),
            ContainerVerb::Diff(args) => Verb::Diff(args),
            ContainerVerb::Export(args) => Verb::Export(args),
            ContainerVerb::Commit(args) => Verb::Commit(args),
            ContainerVerb::Top(args) => Verb::Top(args),
            ContainerVerb::Logs(args) => Verb::Logs(args),
            ContainerVerb::Ls(args) => Verb::Ps(args),
            ContainerVerb::Port(args) => Verb::Port(args),
            ContainerVerb::Inspect(args) => Verb::Inspect(args),
            ContainerVerb::Stats(args) => Verb::Stats(args),
            ContainerVerb::Rm(args) => Verb::Rm(args),
            ContainerVerb::Update(args) => Verb::Update(args),
            ContainerVerb::Rename(args) => Verb::Rename(args),
            ContainerVerb::Prune(args) => return rm::prune(&args, root),
        },
        root,
    )
}

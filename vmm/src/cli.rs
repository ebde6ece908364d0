//! The command line: what was typed. One file for each verb: its arguments and
//! one function. What is meant by the arguments is `plan`'s business.

#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are help texts, which put what can be left out in brackets"
)]

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::{Failure, LAUNCHER};
use crate::output;

mod ask;
mod clone;
mod commit;
mod completion;
mod container;
mod cp;
mod create;
mod diff;
mod doctor;
mod events;
mod exec;
mod health;
mod history;
mod image;
mod images;
mod import;
mod inside;
mod inspect;
mod job;
mod load;
mod login;
mod logout;
mod logs;
mod man;
mod names;
mod network;
mod networks;
mod port;
mod ps;
mod pull;
mod push;
mod refused;
mod rm;
pub(crate) mod rmi;
mod run;
mod save;
mod size;
mod snapshot;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod update;
mod version;
mod volume;

pub(crate) use create::{Args as RunArgs, KernelLog};
pub(crate) use inside::{Capabilities, Inside, Mount, Security, Source, Volume, is_name};
pub(crate) use network::{Connection, Egress, Exposed, Mac, Network as NetworkFlags};
pub(crate) use size::{Size, SizeError};

/// Runs containers, each in a virtual machine of its own.
#[derive(Debug, Parser)]
#[command(
    name = "hull",
    version,
    disable_version_flag = true,
    infer_long_args = false,
    after_help = "Exit codes of `hull run`: the command's own (0 to 255), 128 + N when signal N ended it,\n\
                  125 when hull failed, 126 when the command cannot be executed, 127 when it is not found."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// Directory of the image store [default: /var/lib/hull for root,
    /// $XDG_DATA_HOME/hull for others]
    #[arg(long, global = true, value_name = "DIR", env = "HULL_ROOT")]
    root: Option<PathBuf>,
}

/// The same for `hull run` alone.
#[derive(Debug, Parser)]
struct Run {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    args: run::Args,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
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
    Ps(ps::Args),
    /// Show where a container's ports are published
    Port(port::Args),
    /// Show what happens to containers
    Events(events::Args),
    /// Show everything that is known of containers or images
    Inspect(inspect::Args),
    /// Show what containers take of the host
    Stats(stats::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Give a container another name
    Rename(rm::RenameArgs),
    /// Give containers another size or restart policy
    Update(update::Args),
    /// Everything about containers
    Container(Box<container::Args>),
    /// Get an image from a registry
    Pull(Box<pull::Args>),
    /// Bring an image to a registry
    Push(push::Args),
    /// List the images in the store
    Images(Box<images::Args>),
    /// Remove images
    Rmi(rmi::Args),
    /// Load images from an archive
    Load(load::Args),
    /// Save images into an archive
    Save(save::Args),
    /// Make an image of a tar
    Import(import::Args),
    /// Give an image another name
    Tag(tag::Args),
    /// Show how an image came to be
    History(history::Args),
    /// Everything about images
    Image(Box<image::Args>),
    /// Everything about volumes
    Volume(volume::Args),
    /// Make copies of a running container that go on from where it is, each by itself
    Clone(clone::Args),
    /// Everything about snapshots of running containers
    Snapshot(snapshot::Args),
    /// Networks in which containers see each other
    Network(networks::Args),
    /// The store as a whole
    System(system::Args),
    /// Keep the credentials for a registry
    Login(login::Args),
    /// Forget the credentials for a registry
    Logout(logout::Args),
    /// Say whether this host can run hull, and what to do if not
    Doctor(doctor::Args),
    /// Print the version of hull and of what it runs with
    Version,
    /// Print the completion script for a shell
    Completion(completion::Args),
    /// Write the manual pages into a directory
    Man(man::Args),
}

/// What a command line means; its first word is the program.
fn parse(words: impl Iterator<Item = OsString> + Clone) -> Result<Cli, clap::Error> {
    let mut verb = words.clone().skip(1).peekable();
    if verb.peek().is_some_and(|verb| verb == "run")
        && let Ok(cli) = parse_run(verb)
    {
        return Ok(cli);
    }
    Cli::try_parse_from(words)
}

/// The same for words that begin with `run`. All other verbs are left out of the grammar, which halves the time until hull knows what
/// to do; so what is refused here is to be told by the whole.
fn parse_run(words: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let run = Run::try_parse_from(words)?;
    Ok(Cli {
        global: run.global,
        verb: Verb::Run(Box::new(run.args)),
    })
}

/// Parses the command line and runs the verb.
pub(crate) fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    let cli = match parse(words.into_iter()) {
        Ok(cli) => cli,
        Err(mut error) => {
            let advice = refused::advice(&mut error);
            let _ = error.print();
            if let Some(advice) = advice {
                eprintln!("hint: {advice}");
            }
            return ExitCode::from(if error.use_stderr() { LAUNCHER } else { 0 });
        }
    };
    let code = match dispatch(cli.verb, cli.global.root) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    output::outcome(code)
}

fn dispatch(verb: Verb, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Run(args) => run::run(&args, root),
        Verb::Create(args) => create::run(&args, root),
        Verb::Start(args) => start::run(&args, root),
        Verb::Stop(args) => stop::run(&args, root),
        Verb::Restart(args) => start::restart(&args, root),
        Verb::Kill(args) => stop::kill(&args, root),
        Verb::Pause(args) => stop::pause(&args, root),
        Verb::Unpause(args) => stop::unpause(&args, root),
        Verb::Wait(args) => stop::wait(&args, root),
        Verb::Exec(args) => exec::run(&args, root),
        Verb::Attach(args) => exec::attach(&args, root),
        Verb::Cp(args) => cp::run(&args, root),
        Verb::Diff(args) => diff::run(&args, root),
        Verb::Export(args) => cp::export(&args, root),
        Verb::Commit(args) => commit::run(&args, root),
        Verb::Top(args) => top::run(&args, root),
        Verb::Logs(args) => logs::run(&args, root),
        Verb::Ps(args) => ps::run(&args, root),
        Verb::Port(args) => port::run(&args, root),
        Verb::Events(args) => events::run(&args, root),
        Verb::Inspect(args) => inspect::run(&args, root),
        Verb::Stats(args) => stats::run(&args, root),
        Verb::Rm(args) => rm::run(&args, root),
        Verb::Update(args) => update::run(&args, root),
        Verb::Rename(args) => rm::rename(&args, root),
        Verb::Container(args) => container::run(*args, root),
        Verb::Pull(args) => pull::run(&args, root),
        Verb::Push(args) => push::run(&args, root),
        Verb::Images(args) => images::run(&args, root),
        Verb::Rmi(args) => rmi::run(&args, root),
        Verb::Load(args) => load::run(&args, root),
        Verb::Save(args) => save::run(&args, root),
        Verb::Import(args) => import::run(&args, root),
        Verb::Tag(args) => tag::run(&args, root),
        Verb::History(args) => history::run(&args, root),
        Verb::Image(args) => image::run(&args, root),
        Verb::Volume(args) => volume::run(&args, root),
        Verb::Clone(args) => clone::run(&args, root),
        Verb::Snapshot(args) => snapshot::run(&args, root),
        Verb::Network(args) => networks::run(&args, root),
        Verb::System(args) => system::run(&args, root),
        Verb::Login(args) => login::run(&args),
        Verb::Logout(args) => logout::run(&args),
        Verb::Doctor(args) => doctor::run(args, root),
        Verb::Version => version::run(),
        Verb::Completion(args) => completion::run(args, &mut Cli::command()),
        Verb::Man(args) => man::run(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests;

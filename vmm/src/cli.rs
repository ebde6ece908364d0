//! The command line: what was typed. One file for each verb: its arguments and
//! one function. What is meant by the arguments is `plan`'s business.

#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are help texts, which put what can be left out in brackets"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::{Failure, LAUNCHER};

mod completion;
mod doctor;
mod history;
mod image;
mod images;
mod import;
mod load;
mod login;
mod logout;
mod man;
mod pull;
mod push;
mod refused;
pub(crate) mod rmi;
mod run;
mod save;
mod size;
mod system;
mod tag;
mod version;

pub(crate) use run::Args as RunArgs;
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
    /// Directory of the image store [default: /var/lib/hull for root,
    /// $XDG_DATA_HOME/hull for others]
    #[arg(long, global = true, value_name = "DIR", env = "HULL_ROOT")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command in a new container
    Run(Box<run::Args>),
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

/// Parses the command line and runs the verb.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if let Some(advice) = refused::advice(&error) {
                eprintln!("hint: {advice}");
            }
            return ExitCode::from(if error.use_stderr() { LAUNCHER } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.verb {
        Verb::Run(args) => run::run(&args, cli.root),
        Verb::Pull(args) => pull::run(&args, cli.root),
        Verb::Push(args) => push::run(&args, cli.root),
        Verb::Images(args) => images::run(&args, cli.root),
        Verb::Rmi(args) => rmi::run(&args, cli.root),
        Verb::Load(args) => load::run(&args, cli.root),
        Verb::Save(args) => save::run(&args, cli.root),
        Verb::Import(args) => import::run(&args, cli.root),
        Verb::Tag(args) => tag::run(&args, cli.root),
        Verb::History(args) => history::run(&args, cli.root),
        Verb::Image(args) => image::run(&args, cli.root),
        Verb::System(args) => system::run(&args, cli.root),
        Verb::Login(args) => login::run(&args),
        Verb::Logout(args) => logout::run(&args),
        Verb::Doctor(args) => doctor::run(args, cli.root),
        Verb::Version => version::run(),
        Verb::Completion(args) => completion::run(args, &mut Cli::command()),
        Verb::Man(args) => man::run(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests;

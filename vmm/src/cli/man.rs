//! `hull man`: the manual pages, one for each verb.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write hull.1, hull-run.1, … (created when missing)
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(args: &Args, command: Command) -> Result<ExitCode, Failure> {
    fs::create_dir_all(&args.directory)?;
    clap_mangen::generate_to(command, &args.directory)?;
    Ok(ExitCode::SUCCESS)
}

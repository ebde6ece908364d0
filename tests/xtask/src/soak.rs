//! `cargo xtask soak`: the long form of the end-to-end tests that do something very often. Knows how much, not what.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::{build, demo, lab, test};

/// What can be typed after `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Steps of the hostile guest
    #[arg(long, default_value = "10000000", value_name = "NUMBER")]
    steps: u64,
    /// What all that the hostile guest does follows from; another one each time, and printed, if none is given
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Hours that a lab may take.
const LIMIT: u64 = 12 * 3600;

/// Runs the long form of each in turn; each prints its figures.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let hull = build::ensure()?;
    build::images()?;
    let suite = test::executable(&["--package", "tests", "--test", "end-to-end"])?;
    let mut variables = vec![format!("HULL_SOAK_STEPS={}", args.steps)];
    variables.extend(args.seed.map(|seed| format!("HULL_SOAK_SEED={seed}")));
    let mut command: Vec<OsString> = vec!["env".into()];
    command.extend(variables.into_iter().map(OsString::from));
    command.push(suite.into());
    let words = ["--test-threads=1", "--nocapture", "hostile::"];
    command.extend(words.iter().map(OsString::from));
    if demo::boots_linux(&hull)? {
        let status = Command::new("env").args(&command[1..]).status()?;
        return match status.success() {
            true => Ok(ExitCode::SUCCESS),
            false => bail!("The soak failed ({status})"),
        };
    }
    match lab::exit_code(lab::Args::new(command).memory("8G").timeout(LIMIT))? {
        0 => Ok(ExitCode::SUCCESS),
        code => bail!("The soak in the lab failed (exit code {code})"),
    }
}

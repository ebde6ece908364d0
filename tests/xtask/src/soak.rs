//! `cargo xtask soak`: the long form of the end-to-end tests that do something very often. Knows how much, not what.

use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};

use crate::{apt, build, demo, lab, test};

/// What can be typed after `cargo xtask soak`. 0 leaves a part out.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Steps of the hostile guest
    #[arg(long, default_value = "10000000", value_name = "NUMBER")]
    steps: u64,
    /// Containers that are started, used, stopped and removed
    #[arg(long, default_value = "10000", value_name = "NUMBER")]
    cycles: u64,
    /// Runs that begin in templates, half of them with a disk
    #[arg(long, default_value = "1000", value_name = "NUMBER")]
    warm: u64,
    /// Processes of hull that are killed at random moments, each followed by a run
    #[arg(long, default_value = "1000", value_name = "NUMBER")]
    kills: u64,
    /// System calls that fail, one in each process of a command, each followed by a run
    #[arg(long, default_value = "1000", value_name = "NUMBER")]
    faults: u64,
    /// Clients that do everything to half as many containers at once
    #[arg(long, default_value = "16", value_name = "NUMBER")]
    clients: u64,
    /// Commands of each client
    #[arg(long, default_value = "200", value_name = "NUMBER")]
    deeds: u64,
    /// Bits flipped in a store, each in a fresh copy
    #[arg(long, default_value = "1000", value_name = "NUMBER")]
    flips: u64,
    /// Disks that are full, with more room left each time
    #[arg(long, default_value = "256", value_name = "NUMBER")]
    full: u64,
    /// MiB of output against a reader that stalls
    #[arg(long, default_value = "10240", value_name = "NUMBER")]
    mebibytes: u64,
    /// Copies of a database, each changed by itself, all at once
    #[arg(long, default_value = "100", value_name = "NUMBER")]
    clones: u64,
    /// Containers that are started at once
    #[arg(long, default_value = "100", value_name = "NUMBER")]
    starts: u64,
    /// All with a hull that has the address sanitizer
    #[arg(long)]
    sanitized: bool,
    /// What all that is random follows from; another one each time, and printed, if none is given
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Hours that a lab may take.
const LIMIT: u64 = 24 * 3600;

/// Runs the long form of each in turn; each prints its figure.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    apt::need(&[test::STRACE])?;
    let hull = build::ensure()?;
    let tested = if args.sanitized {
        Some(build::sanitized()?)
    } else {
        None
    };
    build::images()?;
    let suite = test::executable(&["--package", "tests", "--test", "end-to-end"])?;
    // How the tests call it, how often, and what a test's name contains.
    let parts = [
        ("STEPS", args.steps, "hostile::"),
        ("CYCLES", args.cycles, "soak::alone_cycles"),
        ("WARM", args.warm, "soak::warm::"),
        ("KILLS", args.kills, "soak::alone_kills"),
        ("FAULTS", args.faults, "soak::alone_a_call"),
        ("CLIENTS", args.clients, "soak::alone_clients"),
        ("DEEDS", args.deeds, "soak::alone_clients"),
        ("FLIPS", args.flips, "soak::a_flipped"),
        ("FULL", args.full, "soak::full::"),
        ("MEBIBYTES", args.mebibytes, "soak::alone_a_stalled"),
        ("CLONES", args.clones, "clones::alone_databases"),
        ("STARTS", args.starts, "upsets::many_start"),
    ];
    let parts = || parts.iter().filter(|(_, amount, _)| *amount > 0);
    ensure!(parts().count() > 0, "Nothing is left to do");
    let variables = parts().map(|(name, amount, _)| format!("HULL_SOAK_{name}={amount}"));
    let seed = args.seed.map(|seed| format!("HULL_SOAK_SEED={seed}"));
    let mut command: Vec<OsString> = variables.chain(seed).map(OsString::from).collect();
    let told = tested.iter().flat_map(|hull| test::sanitized(hull));
    command.extend(told.map(|(name, value)| [name.into(), value].join(OsStr::new("="))));
    command.push(suite.into());
    command.extend(["--test-threads=1", "--nocapture"].map(OsString::from));
    command.extend(parts().map(|(_, _, test)| OsString::from(test)));
    if demo::boots_linux(&hull)? {
        let status = Command::new("env").args(&command).status()?;
        return match status.success() {
            true => Ok(ExitCode::SUCCESS),
            false => bail!("The soak failed ({status})"),
        };
    }
    command.insert(0, "env".into());
    match lab::exit_code(lab::Args::new(command).memory("8G").timeout(LIMIT))? {
        0 => Ok(ExitCode::SUCCESS),
        code => bail!("The soak in the lab failed (exit code {code})"),
    }
}

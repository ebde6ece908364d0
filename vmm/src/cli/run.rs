//! `hull run`: a command in a new container.

use std::path::PathBuf;
use std::process::ExitCode;

use super::create::{self, Fate};
use crate::agent::Outcome;
use crate::control::Request;
use crate::failure::Failure;
use crate::session::{self, Left, Part};
use crate::timings::Clock;
use crate::{supervise, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave the container alone once it runs, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Pass signals on to the command
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Print the phases of the run and its counts to standard error at the end
    #[arg(long, conflicts_with = "detach")]
    timings: bool,
    #[command(flatten)]
    pub(super) create: create::Args,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut clock = Clock::start();
    let create = &args.create;
    let (tty, stdin) = (create.tty, create.interactive);
    if tty && stdin && !args.detach && !terminal::on_stdin() {
        return Err(session::not_a_terminal());
    }
    let fate = Fate {
        timings: args.timings,
        stays: !args.detach,
    };
    let made = create::make(create, root, &fate)?;
    clock.image();
    let config = made.container.config.clone();
    let first = match args.detach {
        true => Request::Start,
        false => Request::Attach { stdin, bound: true },
    };
    let (container, supervision) = (made.container, made.supervision);
    let socket = supervise::start(container, supervision, made.task, made.parts, &first)?;
    if args.detach {
        super::ask::started(&socket)?;
        println!("{}", config.id);
        return Ok(ExitCode::SUCCESS);
    }
    let part = Part {
        tty,
        stdin,
        once: true,
        signals: args.sig_proxy,
        fresh: false,
        bound: true,
    };
    let ended = match session::run(&socket, part)? {
        Left::Detached => return Ok(ExitCode::SUCCESS),
        Left::Ended(ended) => ended,
    };
    clock.exited();
    let (status, ticks) = (ended.result?, ended.ticks);
    if let Some(report) = &ended.report {
        let booted = !report.timings.restored;
        let outcome = Outcome {
            status,
            ticks,
            booted,
        };
        eprint!(
            "{}",
            clock.table(report, &outcome, config.machine.memory.bytes())
        );
    }
    Ok(ExitCode::from(session::exit_code(status)))
}

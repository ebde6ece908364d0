//! `hull stop`, `kill`, `pause`, `unpause` and `wait`: what is done to a container that runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::io::Errno;

use super::ask;
use crate::container::events;
use crate::control::{ControlError, Request};
use crate::failure::Failure;
use crate::session;
use crate::signal;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds after which what goes on is ended [default: the container's own]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    time: Option<u64>,
    /// Signal with which the end is asked for [default: the container's own]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<signal::Name>,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct KillArgs {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: signal::Name,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Names {
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    ask::each(root, &args.containers, |_, container| {
        let config = &container.config;
        let signal = args.signal.map_or(config.stop_signal, |signal| signal.0);
        let grace = Duration::from_secs(args.time.unwrap_or(config.stop_timeout));
        let runs = container.is_supervised();
        ask::stop(&container, signal, grace)?;
        if runs && container.is_there() {
            events::note(&container, "stop", None);
        }
        Ok(())
    })
}

pub(super) fn kill(args: &KillArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    ask::each(root, &args.containers, |_, container| {
        if args.signal.0 == signal::KILL {
            ask::running(&container)?;
            return ask::stop(&container, signal::KILL, Duration::ZERO);
        }
        ask::ask(&ask::running(&container)?, &Request::Signal(args.signal.0))
    })
}

pub(super) fn pause(args: &Names, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    ask::each(root, &args.containers, |_, container| {
        ask::ask(&ask::running(&container)?, &Request::Pause)
    })
}

pub(super) fn unpause(args: &Names, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    ask::each(root, &args.containers, |_, container| {
        ask::ask(&ask::running(&container)?, &Request::Unpause)
    })
}

/// Prints the exit codes, in order.
pub(super) fn wait(args: &Names, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    for name in &args.containers {
        let container = ask::find(&containers, name)?;
        let told = loop {
            let Some(socket) = ask::connect(&container)? else {
                break None;
            };
            let asked = socket.send(&Request::Wait, None);
            match asked.and_then(|()| ask::ended(&socket, None)) {
                // It has ended before it was asked, and may begin again.
                Err(ControlError::Closed | ControlError::Socket(Errno::PIPE)) => {}
                told => break told?,
            }
        };
        let code = match told.map(|ended| ended.result) {
            Some(Ok(status)) => session::exit_code(status),
            Some(Err(failure)) => failure.exit_code(),
            // It may have been removed, too.
            None => ask::find(&containers, name)?.state().exit_code,
        };
        println!("{code}");
    }
    Ok(ExitCode::SUCCESS)
}

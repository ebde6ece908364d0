//! `hull exec` and `hull attach`: taking part in a container that runs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use protocol::{Bytes, Privileges, Process};

use super::{ask, start};
use crate::control::Request;
use crate::failure::Failure;
use crate::session::{self, Part};
use crate::terminal::Keys;
use crate::{plan, terminal};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave the command alone once it runs
    #[arg(short, long)]
    detach: bool,
    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Keys that leave the command alone and give the terminal back: characters, and ctrl- with one, with commas between
    #[arg(long, value_name = "KEYS", default_value = terminal::DETACH)]
    detach_keys: Keys,
    /// Set an environment variable; without a value, take hull's own
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Read environment variables from a file, one NAME[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// User, and group if given, by name or number [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Give the command all capabilities
    #[arg(long)]
    privileged: bool,
    /// Container: a name, an id, or the beginning of one
    container: String,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(super) struct AttachArgs {
    /// Pass no standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the command. If not, they end the client alone
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Keys that leave the command alone and give the terminal back: characters, and ctrl- with one, with commas between
    #[arg(long, value_name = "KEYS", default_value = terminal::DETACH)]
    detach_keys: Keys,
    /// Container: a name, an id, or the beginning of one
    container: String,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let attached = !args.detach;
    let stdin = args.interactive && attached;
    if args.tty && stdin && !terminal::on_stdin() {
        return Err(session::not_a_terminal());
    }
    let container = ask::find(&ask::containers(root)?, &args.container)?;
    let socket = ask::awake(&container)?;
    let first = container.task()?.process;
    let mut env = first.env;
    let more = plan::variables(args.tty, &args.env_file, &args.env)?;
    plan::replace(&mut env, more);
    let process = Process {
        argv: args
            .command
            .iter()
            .map(|w| Bytes::from(w.as_os_str()))
            .collect(),
        env,
        cwd: match &args.workdir {
            Some(directory) => plan::workdir(directory)?,
            None => first.cwd,
        },
        user: args.user.as_deref().map_or(first.user, Bytes::from),
        stdin,
        terminal: args.tty.then(terminal::window),
        privileges: if args.privileged {
            Privileges::FULL
        } else {
            first.privileges
        },
        ..first
    };
    let process = Box::new(process);
    socket.send(&Request::Exec { process, attached }, None)?;
    if args.detach {
        ask::starts(&socket)?;
        return Ok(ExitCode::SUCCESS);
    }
    let part = Part {
        tty: args.tty,
        detach_keys: args.detach_keys.clone(),
        stdin,
        once: true,
        signals: true,
        fresh: true,
        bound: false,
    };
    start::take_part(&socket, part)
}

pub(super) fn attach(args: &AttachArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root)?, &args.container)?;
    let socket = ask::running(&container)?;
    let config = &container.config;
    let stdin = config.interactive && !args.no_stdin;
    let request = Request::Attach {
        stdin,
        bound: false,
    };
    socket.send(&request, None)?;
    let part = Part {
        tty: config.tty,
        detach_keys: args.detach_keys.clone(),
        stdin,
        once: false,
        signals: args.sig_proxy,
        fresh: false,
        bound: false,
    };
    start::take_part(&socket, part)
}

//! `hull clone`: copies of a container that runs, each of which goes on by itself.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use super::run::restore::{self, Copy};
use super::{ask, create, snapshot};
use crate::container::{self, Container};
use crate::control::{Request, Socket};
use crate::failure::{self, Failure};
use crate::snapshot::named::{Snapshot, Snapshots};
use crate::{store, supervise};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many
    #[arg(short, long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    number: u16,
    /// Name of the copy; of more than one, NAME-1, NAME-2 and so on [default: two random words]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    name: String,
    /// Remove copies when they end; with a command, they end when that does
    #[arg(long)]
    rm: bool,
    /// Container that runs: name, id, or beginning of an id
    container: String,
    /// Run this in each copy, all at once, as `hull exec` would, with the copy's number, from 1, in HULL_CLONE
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let directory = store::directory(root.clone())?;
    let source = ask::find(&ask::containers(root.clone())?, &args.container)?;
    let (mut ids, mut sockets) = (Vec::new(), Vec::new());
    let all = start_all(args, &source, root, &mut ids, &mut sockets);
    let mut code = 0;
    let mut first_of = |failed: u8| code = if code == 0 { failed } else { code };
    let mut commands = Vec::new();
    for ((id, socket), number) in ids.iter().zip(&sockets).zip(1u16..) {
        let runs = ask::started(socket).and_then(|()| match &args.command[..] {
            [] => {
                println!("{id}");
                Ok(())
            }
            words => {
                commands.push(execute(&directory, id, number, words)?);
                Ok(())
            }
        });
        if let Err(failure) = runs {
            first_of(failure.exit_code());
            failure.report();
        }
    }
    if let Err(failure) = all {
        first_of(failure.exit_code());
        failure.report();
    }
    for mut command in commands {
        let status = command.wait()?;
        let signal = status.signal().map(|signal| 128 + signal);
        let status = status.code().or(signal).unwrap_or(0);
        first_of(u8::try_from(status).unwrap_or(failure::LAUNCHER));
    }
    if args.rm && !args.command.is_empty() {
        end_all(&sockets);
    }
    Ok(ExitCode::from(code))
}

/// Saves the source once, and has all copies begin with that. Nothing of it has a name afterwards. Whoever drops a connection
/// ends a copy that is bound to it.
fn start_all(
    args: &Args,
    source: &Container,
    root: Option<PathBuf>,
    ids: &mut Vec<String>,
    sockets: &mut Vec<Socket>,
) -> Result<(), Failure> {
    let directory = store::directory(root.clone())?;
    let store = store::open(root.clone())?;
    let name = container::new_id()?;
    let draft = snapshot::save(source, &Snapshots::of(&directory), &name, root)?;
    let copied = draft.directory().try_clone_to_owned()?;
    let found = Snapshot::read(&name, copied).map_err(snapshot::refused)?;
    let bound = args.rm && !args.command.is_empty();
    for number in 1..=args.number {
        let copy = Copy {
            name: match (&args.name[..], args.number) {
                ("", _) | (_, 1) => args.name.clone(),
                (name, _) => format!("{name}-{number}"),
            },
            remove: args.rm,
            silent: bound,
            cidfile: None,
        };
        let (made, rest) = restore::make(&found, copy, &store, &directory)?;
        let create::Made {
            container,
            supervision,
            task,
            parts,
        } = made;
        ids.push(container.config.id.clone());
        let (first, saved) = (Request::Start { bound }, Some(rest));
        let socket = supervise::start(container, supervision, task, parts, saved, &first, sockets)?;
        sockets.push(socket);
    }
    Ok(())
}

/// Runs the command in a copy, with hull's own output.
fn execute(
    root: &std::path::Path,
    id: &str,
    number: u16,
    words: &[OsString],
) -> Result<Child, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(root).arg("exec");
    command.args(["-e", &format!("HULL_CLONE={number}"), id]);
    Ok(command.args(words).spawn()?)
}

/// Ends the copies that are bound to their connections, and waits until nothing of them is left.
fn end_all(sockets: &[Socket]) {
    for socket in sockets {
        // It may have ended by itself.
        let _ = socket.send(&Request::Destroy, None);
    }
    for socket in sockets {
        let _ = ask::ended(socket, None);
    }
}

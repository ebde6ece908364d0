//! `hull clone`: copies of a container that runs, each of which goes on by itself.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use rustix::process::Pid;

use super::run::restore::{self, Copy};
use super::{ask, create, snapshot};
use crate::child;
use crate::container::{self, Container};
use crate::control::{Request, Socket};
use crate::failure::{self, Failure};
use crate::snapshot::draft::Draft;
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

/// Bytes of a saved machine for each of its copies, up to which it takes less time to learn from the first than the others save.
const WORTH_LEARNING: u64 = 1 << 20;
/// The first one's command may take so long before the others begin: they all run at once, whatever it waits for.
const HEAD_START: Duration = Duration::from_millis(100);

/// Copies that begin at a time, for each processor: with more, the first of them would wait for the last.
const AT_A_TIME: usize = 8;

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let directory = store::directory(root.clone())?;
    let source = ask::find(&ask::containers(root.clone())?, &args.container)?;
    let mut copies = Copies {
        args,
        directory,
        ids: Vec::new(),
        sockets: Vec::new(),
        announced: 0,
        commands: Vec::new(),
        code: 0,
    };
    if let Err(failure) = copies.start_all(&source, root) {
        copies.failed(&failure);
    }
    copies.announce_but(0);
    let status = copies.wait()?;
    if args.rm && !args.command.is_empty() {
        end_all(&copies.sockets);
    }
    Ok(ExitCode::from(status))
}

/// The copies so far.
struct Copies<'a> {
    args: &'a Args,
    directory: PathBuf,
    ids: Vec<String>,
    sockets: Vec<Socket>,
    /// So many of them run, or were told to be of no use.
    announced: usize,
    /// What runs in them.
    commands: Vec<Child>,
    /// The first one that is not 0.
    code: u8,
}

impl Copies<'_> {
    /// Saves the source once, and has all copies begin with that. Nothing of it has a name afterwards. Whoever drops a connection
    /// ends a copy that is bound to it.
    fn start_all(&mut self, source: &Container, root: Option<PathBuf>) -> Result<(), Failure> {
        let (args, directory) = (self.args, self.directory.clone());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let store = store::open(root.clone())?;
        let name = container::new_id()?;
        let draft = snapshot::save(source, &Snapshots::of(&directory), &name, false, root)?;
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
            self.ids.push(container.config.id.clone());
            let (first, saved) = (Request::Start { bound }, Some(rest));
            let sockets = &mut self.sockets;
            let socket =
                supervise::start(container, supervision, task, parts, saved, &first, sockets)?;
            sockets.push(socket);
            if number == 1 && found.bytes <= u64::from(args.number) * WORTH_LEARNING {
                self.announce_but(0);
                // Without it the others are only slower.
                let _ = self.learn(&draft);
            }
            self.announce_but(AT_A_TIME * processors);
        }
        Ok(())
    }

    /// Has the others begin with what the first, and its command, has written of its memory. Where that command has not ended there
    /// is nothing to learn: nothing else can be begun in a copy while it is saved.
    fn learn(&self, draft: &Draft) -> Result<(), Failure> {
        let Some(command) = self.commands.first() else {
            return Ok(());
        };
        if !child::ends_within(Pid::from_child(command), HEAD_START)? {
            return Ok(());
        }
        let root = Some(self.directory.clone());
        let first = self.ids.first().map_or("", String::as_str);
        let first = ask::find(&ask::containers(root.clone())?, first)?;
        let snapshots = Snapshots::of(&self.directory);
        let now = snapshot::save(&first, &snapshots, &container::new_id()?, false, root)?;
        draft.learn(&now.memory).map_err(Failure::new)
    }

    /// Waits for all but the last few to run, and tells of each or has its command run.
    fn announce_but(&mut self, few: usize) {
        while self.announced + few < self.sockets.len() {
            let number = self.announced;
            self.announced += 1;
            if let Err(failure) = self.announce(number) {
                self.failed(&failure);
            }
        }
    }

    fn announce(&mut self, number: usize) -> Result<(), Failure> {
        let (Some(id), Some(socket)) = (self.ids.get(number), self.sockets.get(number)) else {
            return Ok(());
        };
        ask::started(socket)?;
        match &self.args.command[..] {
            [] => println!("{id}"),
            words => {
                let command = execute(&self.directory, id, number + 1, words)?;
                self.commands.push(command);
            }
        }
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) {
        self.ended_with(failure.exit_code());
        failure.report();
    }

    fn ended_with(&mut self, code: u8) {
        if self.code == 0 {
            self.code = code;
        }
    }

    /// Waits for the commands.
    fn wait(&mut self) -> Result<u8, Failure> {
        for mut command in std::mem::take(&mut self.commands) {
            let status = command.wait()?;
            let signal = status.signal().map(|signal| 128 + signal);
            let status = status.code().or(signal).unwrap_or(0);
            self.ended_with(u8::try_from(status).unwrap_or(failure::LAUNCHER));
        }
        Ok(self.code)
    }
}

/// Runs the command in a copy, with hull's own output.
fn execute(
    root: &std::path::Path,
    id: &str,
    number: usize,
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

//! `hull run`: a command in a new container, or one that goes on where a snapshot was made.

use std::path::PathBuf;
use std::process::ExitCode;

use super::create::{self, Fate, Made};
use super::snapshot;
use crate::agent::Outcome;
use crate::control::Request;
use crate::failure::{self, Failure};
use crate::session::{self, Left, Part};
use crate::snapshot::named::Snapshots;
use crate::terminal::Keys;
use crate::timings::Clock;
use crate::vmm::Rest;
use crate::{store, supervise, terminal};
use restore::Copy;

pub(super) mod restore;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave the container alone once it runs, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Pass signals on to the command. If not, they end the client alone, and the container goes on
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Keys that leave the command alone and give the terminal back: characters, and ctrl- with one, with commas between
    #[arg(long, value_name = "KEYS", default_value = terminal::DETACH)]
    detach_keys: Keys,
    /// Print the phases of the run and its counts to standard error at the end
    #[arg(long, conflicts_with = "detach")]
    timings: bool,
    /// Go on where this snapshot was made, in a new container, instead of running an image: the same
    /// processes with the same memory. Its input is at its end, no ports are published, its connections to
    /// others are reset, and `hull exec`s are not part of it
    #[arg(long, value_name = "SNAPSHOT")]
    from: Option<String>,
    #[command(flatten)]
    pub(super) create: New,
}

/// What makes a new container; of a snapshot only what it is called and whether it stays can be said.
#[derive(Debug)]
pub(crate) struct New(pub(crate) create::Args);

/// Flags that go together with `--from`.
const OF_SNAPSHOTS: [&str; 7] = [
    "root",
    "detach",
    "sig_proxy",
    "from",
    "name",
    "rm",
    "cidfile",
];

impl clap::FromArgMatches for New {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        create::Args::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl clap::Args for New {
    fn augment_args(command: clap::Command) -> clap::Command {
        // In one pass: an argument that is changed by itself loses its place among the positional ones.
        create::Args::augment_args(command).mut_args(|arg| match arg.get_id().as_str() {
            "image" => {
                let arg = arg.required(false).required_unless_present("from");
                arg.conflicts_with("from")
            }
            id if OF_SNAPSHOTS.contains(&id) => arg,
            _ => arg.conflicts_with("from"),
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        create::Args::augment_args_for_update(command)
    }
}

/// The copy that `--from` asks for.
fn go_on(
    name: &str,
    args: &create::Args,
    root: Option<PathBuf>,
    stays: bool,
) -> Result<(Made, Rest), Failure> {
    let store = store::open(root.clone())?;
    let directory = store::directory(root)?;
    let found = Snapshots::of(&directory).get(name);
    let found = found.map_err(|error| snapshot::refused(error).code(failure::LAUNCHER))?;
    let copy = Copy {
        name: args.name.clone(),
        remove: args.rm,
        silent: args.rm && stays,
        cidfile: args.cidfile.as_ref(),
    };
    restore::make(&found, copy, &store, &directory)
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut clock = Clock::start();
    let New(create) = &args.create;
    let (tty, stdin) = (create.tty, create.interactive);
    if tty && stdin && !args.detach && !terminal::on_stdin() {
        return Err(session::not_a_terminal());
    }
    let fate = Fate {
        timings: args.timings,
        stays: !args.detach,
    };
    let (made, saved) = match &args.from {
        Some(name) => {
            let (made, rest) = go_on(name, create, root, fate.stays)?;
            (made, Some(rest))
        }
        None => (create::make(create, root, &fate)?, None),
    };
    clock.image();
    let config = made.container.config.clone();
    // A container that hears none of its client's signals outlives it.
    let bound = args.sig_proxy;
    let first = match args.detach {
        true => Request::Start { bound: false },
        false => Request::Attach { stdin, bound },
    };
    let Made {
        container,
        supervision,
        task,
        parts,
    } = made;
    let socket = supervise::start(
        container,
        supervision,
        task,
        parts,
        saved,
        &first,
        &mut Vec::new(),
    )?;
    if args.detach {
        super::ask::started(&socket)?;
        println!("{}", config.id);
        return Ok(ExitCode::SUCCESS);
    }
    let part = Part {
        tty,
        detach_keys: args.detach_keys.clone(),
        stdin,
        once: true,
        signals: args.sig_proxy,
        fresh: false,
        bound,
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

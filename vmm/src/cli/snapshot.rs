//! `hull snapshot …`: containers as they were at one moment, to go on from.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::ask;
use crate::container::{Config, Container, short};
use crate::control::{Answer, Request, Socket};
use crate::failure::Failure;
use crate::listing::{self, Column, Format};
use crate::snapshot::draft::Draft;
use crate::snapshot::named::{Snapshot, SnapshotError, Snapshots};
use crate::{human, store, template};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Save a container as it is now: it stands still meanwhile, and goes on as if nothing had
    /// been. `hull run --from NAME` goes on from there. Not of containers with a terminal,
    /// volumes or a network of one's own
    Create(CreateArgs),
    /// List the snapshots
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything that is known of snapshots
    Inspect(InspectArgs),
    /// Remove snapshots; containers that were made of them go on
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Container: name, id, or beginning of an id
    container: String,
    /// Name of the snapshot
    name: String,
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// How to print: table, json, or a template such as '{{.Name}}'
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// How to print: json, or a template such as '{{.Size}}'
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Names of snapshots
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Take it well when there is no such snapshot
    #[arg(short, long)]
    force: bool,
    /// Names of snapshots
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

const COLUMNS: [Column; 5] = [
    ("Name", "NAME"),
    ("Container", "CONTAINER"),
    ("Image", "IMAGE"),
    ("Created", "CREATED"),
    ("Size", "SIZE"),
];

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let directory = store::directory(root.clone())?;
    // The directory is made, with its owner checked.
    image::Store::open(&directory)?;
    let snapshots = Snapshots::of(&directory);
    match &args.verb {
        Verb::Create(args) => create(args, &snapshots, root),
        Verb::Ls(args) => list(args, &snapshots),
        Verb::Inspect(args) => inspect(args, &snapshots),
        Verb::Rm(args) => remove(args, &snapshots),
    }
}

/// What to do about a refusal.
pub(super) fn refused(error: SnapshotError) -> Failure {
    let hint = match &error {
        SnapshotError::Unknown(_) => Some("`hull snapshot ls` lists what there is."),
        SnapshotError::Taken(_) => {
            Some("`hull snapshot rm` removes one that is not wanted any more.")
        }
        SnapshotError::Protocol { .. }
        | SnapshotError::Format { .. }
        | SnapshotError::Unfit { .. } => Some(
            "A snapshot goes on under the hull that made it, unchanged; `hull snapshot rm` removes it.",
        ),
        SnapshotError::Name(_) | SnapshotError::File { .. } => None,
    };
    let failure = Failure::new(error).code(1);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn create(
    args: &CreateArgs,
    snapshots: &Snapshots,
    root: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root.clone())?, &args.container)?;
    save(&container, snapshots, &args.name, root)?.finish()?;
    println!("{}", args.name);
    Ok(ExitCode::SUCCESS)
}

/// Saves a container that runs into a draft of this name.
pub(super) fn save(
    container: &Container,
    snapshots: &Snapshots,
    name: &str,
    root: Option<PathBuf>,
) -> Result<Draft, Failure> {
    refuse(&container.config)?;
    let socket = ask::awake(container)?;
    let store = store::open(root)?;
    let image = store.resolve(&container.config.image_id)?;
    let file = store.open_root(&image)?.metadata()?;
    let root = template::fingerprint(&file);
    let draft = snapshots
        .begin(name, &container.config, &container.task()?, root)
        .map_err(refused)?;
    socket.send(&Request::Snapshot, Some(draft.directory()))?;
    saved(&socket).map_err(|why| {
        let name = &container.config.name;
        Failure::new(format!("Container {name} was not saved: {why}")).code(1)
    })?;
    Ok(draft)
}

/// Waits until it is; memory takes as long as the disk does.
fn saved(socket: &Socket) -> Result<(), String> {
    loop {
        match socket.receive(true) {
            Ok(Some((Answer::Done, _))) => return Ok(()),
            Ok(Some((Answer::Refused(why), _))) => return Err(why),
            Ok(Some((Answer::Ended(_), _))) => return Err("it has ended".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(crate::failure::line(&error)),
        }
    }
}

/// What cannot go on twice.
fn refuse(config: &Config) -> Result<(), Failure> {
    let (what, hint) = if config.tty {
        ("a terminal", "Run it without -t.")
    } else if config.network.is_some() {
        // Its kernel knows the address by which the others know it.
        (
            "an address in a network of one's own",
            "Run it on the default network.",
        )
    } else if config.uplink.is_some() {
        (
            "a network card that leads to a device of the host's",
            "Run it on the default network.",
        )
    } else if config.shared().next().is_some() {
        (
            "directories of the host",
            "Run it without -v, --mount and --rootfs.",
        )
    } else if config.machine.kernel_log {
        ("--kernel-log", "Run it without.")
    } else {
        return Ok(());
    };
    let name = &config.name;
    Err(Failure::new(format!(
        "Container {name} has {what}, of which no snapshot is made"
    ))
    .code(1)
    .hint(hint))
}

fn describe(snapshot: &Snapshot) -> Value {
    let (about, config) = (&snapshot.about, &snapshot.about.config);
    json!({
        "Name": snapshot.name,
        "Created": human::rfc3339(about.created),
        "Size": snapshot.bytes,
        "Hull": about.hull,
        "Container": { "Id": config.id, "Name": config.name },
        "Image": config.image,
        "ImageID": config.image_id,
        "Command": config.command,
        "Memory": config.machine.memory.bytes(),
        "Cpus": config.machine.cpus.count(),
    })
}

fn list(args: &LsArgs, snapshots: &Snapshots) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    let mut rows = Vec::new();
    for found in snapshots.list() {
        match found {
            Ok(snapshot) => rows.push(snapshot),
            Err(error) => code = refused(error).report(),
        }
    }
    let mut out = std::io::stdout().lock();
    if args.quiet {
        rows.iter()
            .try_for_each(|snapshot| writeln!(out, "{}", snapshot.name))?;
        return Ok(code);
    }
    let now = human::now();
    let row = |snapshot: &Snapshot| {
        let about = &snapshot.about;
        json!({
            "Name": snapshot.name,
            "Container": about.config.name,
            "ContainerID": short(&about.config.id),
            "Image": about.config.image,
            "Created": human::ago(now.saturating_sub(about.created / 1_000_000_000)),
            "Size": human::size(snapshot.bytes),
        })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    listing::print(&mut out, &args.format, &COLUMNS, &rows)?;
    Ok(code)
}

fn inspect(args: &InspectArgs, snapshots: &Snapshots) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        match snapshots.get(name) {
            Ok(snapshot) => found.push(describe(&snapshot)),
            Err(error) => code = refused(error).report(),
        }
    }
    listing::documents(&args.format, &found)?;
    Ok(code)
}

fn remove(args: &RmArgs, snapshots: &Snapshots) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match snapshots.remove(name) {
            Ok(()) => println!("{name}"),
            Err(SnapshotError::Unknown(_)) if args.force => {}
            Err(error) => code = refused(error).report(),
        }
    }
    Ok(code)
}

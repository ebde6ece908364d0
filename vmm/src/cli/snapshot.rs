//! `hull snapshot …`: containers as they were at one moment, to go on from.

use std::path::PathBuf;
use std::process::ExitCode;

use image::{Image, RemoveError, Store};
use serde_json::{Value, json};

use super::ask;
use super::names::{self, LsArgs, RmArgs};
use crate::container::{Container, short};
use crate::control::{Answer, Request, Socket};
use crate::failure::{Failure, escaped};
use crate::listing::Column;
use crate::snapshot::draft::Draft;
use crate::snapshot::named::{self, Snapshot, SnapshotError, Snapshots};
use crate::volume::Volumes;
use crate::{human, store};

mod stream;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Save a container as it is now: it stands still meanwhile (with `--live` for a moment), and goes on
    /// as if nothing had been. `hull run --from NAME` goes on from there. Volumes and directories of the host
    /// are no part of it: copies share them. Not of containers with a terminal, a volume without a name or a
    /// network of one's own
    Create(CreateArgs),
    /// List the snapshots
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything that is known of snapshots
    Inspect(SumsArgs),
    /// Write a snapshot as one archive, for another store or host: its memory, processors, container and
    /// disk. Its image is not in it, and must be there where it goes on. Not packed: `| zstd` does that
    Export(stream::ExportArgs),
    /// Make a snapshot of what `hull snapshot export` wrote. Name servers, host-gateway and limits of the
    /// log are those of the host it goes on at
    Import(stream::ImportArgs),
    /// Remove snapshots; containers that were made of them go on
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Let the container go on while its memory is written: it stands still only until its processors and
    /// its disk, if it has one, are saved. What it changes meanwhile is there twice: up to twice its memory
    #[arg(long)]
    live: bool,
    /// Container: name, id, or beginning of an id
    container: String,
    /// Name of the snapshot
    name: String,
}

#[derive(Debug, clap::Args)]
struct SumsArgs {
    /// Read all of them, and compare them with the sums that were noted when they were made
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    names: names::InspectArgs,
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
    let images = Store::open(&directory)?;
    let snapshots = Snapshots::of(&directory);
    match &args.verb {
        Verb::Create(args) => create(args, &snapshots, root),
        Verb::Ls(args) => list(args, &snapshots),
        Verb::Inspect(args) => inspect(args, &snapshots),
        Verb::Export(args) => stream::export(args, &snapshots),
        Verb::Import(args) => stream::import(args, &snapshots, &images),
        Verb::Rm(args) => Ok(remove(args, &snapshots)),
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
        | SnapshotError::Sum { .. }
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
    let draft = save(&container, snapshots, &args.name, args.live, root)?;
    // The container goes on meanwhile.
    named::finish(&args.name, draft).map_err(refused)?;
    println!("{}", args.name);
    Ok(ExitCode::SUCCESS)
}

/// Saves a container that runs into a draft of this name; one that is `live` goes on before its memory is written.
pub(super) fn save(
    container: &Container,
    snapshots: &Snapshots,
    name: &str,
    live: bool,
    root: Option<PathBuf>,
) -> Result<Draft, Failure> {
    refuse(container)?;
    let socket = ask::awake(container)?;
    let store = store::open(root)?;
    let image = store.resolve(&container.config.image_id)?;
    let root = store.content(&image)?;
    let draft = snapshots
        .begin(name, &container.config, &container.task()?, root)
        .map_err(refused)?;
    socket.send(&Request::Snapshot { live }, Some(draft.directory()))?;
    saved(&socket).map_err(|why| {
        let name = &container.config.name;
        Failure::new(format!("Container {name} was not saved: {why}")).code(1)
    })?;
    Ok(draft)
}

/// The image that a snapshot is of, if the store has it, with the bytes that the guest remembers parts of.
pub(super) fn image_of(snapshot: &Snapshot, store: &Store) -> Result<Image, Failure> {
    let (name, config) = (&snapshot.name, &snapshot.about.config);
    let image = store
        .resolve(&config.image_id)
        .map_err(|error| match error {
            RemoveError::Unknown(id) => {
                let image = &config.image;
                Failure::new(format!(
                    "Snapshot {name} is of the image {image}, which the store has not ({id})"
                ))
                .hint(how_to_get(image))
            }
            error => error.into(),
        })?;
    let found = store.content(&image)?;
    let told = &snapshot.about.root;
    if found == *told {
        return Ok(image);
    }
    let text = format!(
        "Snapshot {name} is of another file system than the store has of its image: {told}, not {found}"
    );
    Err(Failure::new(text).hint(
        "The guest remembers parts of the other one; a hull that converts images as the one that made the snapshot did can go on from it.",
    ))
}

/// Where the image is to come from.
fn how_to_get(image: &str) -> String {
    let image = escaped(image);
    format!(
        "Bring the same image into the store: as {image}, or by `hull save` where the snapshot was made and `hull load` here."
    )
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
fn refuse(container: &Container) -> Result<(), Failure> {
    let config = &container.config;
    let (what, hint) = match named::refusal(config) {
        Some((what, hint)) => (what, hint.to_owned()),
        None => match nameless(container)? {
            Some(target) => (
                "a volume of its own",
                format!("Run it with -v NAME:{target}: what has a name is all copies' together."),
            ),
            None => return Ok(()),
        },
    };
    let name = &config.name;
    Err(Failure::new(format!(
        "Container {name} has {what}, of which no snapshot is made"
    ))
    .code(1)
    .hint(hint))
}

/// Where a container has a volume that was made for it alone.
fn nameless(container: &Container) -> Result<Option<String>, Failure> {
    let volumes = &container.config.volumes;
    if volumes.is_empty() {
        return Ok(None);
    }
    let all = Volumes::open(container.store())?;
    let found = volumes.iter().find(|volume| all.is_anonymous(volume));
    Ok(found.map(|volume| escaped(&volume.target)))
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
    args.print(&COLUMNS, &rows)?;
    Ok(code)
}

fn inspect(args: &SumsArgs, snapshots: &Snapshots) -> Result<ExitCode, Failure> {
    args.names.print(|name| {
        let snapshot = snapshots.get(name).map_err(refused)?;
        if args.verify {
            snapshot.verify().map_err(refused)?;
        }
        Ok(describe(&snapshot))
    })
}

fn remove(args: &RmArgs, snapshots: &Snapshots) -> ExitCode {
    args.remove(|name| match snapshots.remove(name) {
        Ok(()) => Ok(true),
        Err(SnapshotError::Unknown(_)) if args.force => Ok(false),
        Err(error) => Err(refused(error)),
    })
}

//! `hull volume …`: directories that containers keep data in.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::ask;
use super::names::{self, InspectArgs, LsArgs, RmArgs};
use crate::container::new_id;
use crate::failure::Failure;
use crate::listing::Column;
use crate::volume::{Named, VolumeError, Volumes};
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a volume
    Create(CreateArgs),
    /// List the volumes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything that is known of volumes
    Inspect(InspectArgs),
    /// Remove volumes that no container has
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove all volumes that no container has and nobody named
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Call the volume by a label; without a value, an empty one
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Its name [default: 64 hexadecimal digits]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Also those that somebody named
    #[arg(short, long)]
    all: bool,
    /// Accepted for docker's sake: nothing is asked
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: [Column; 2] = [("Driver", "DRIVER"), ("Name", "VOLUME NAME")];

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let directory = store::directory(root.clone())?;
    // The directory is made, with its owner checked.
    image::Store::open(&directory)?;
    let volumes = Volumes::open(&directory)?;
    match &args.verb {
        Verb::Create(args) => create(args, &volumes),
        Verb::Ls(args) => list(args, &volumes),
        Verb::Inspect(args) => inspect(args, &volumes),
        Verb::Rm(args) => remove(args, &volumes, root),
        Verb::Prune(args) => prune(args, &volumes, root),
    }
}

fn create(args: &CreateArgs, volumes: &Volumes) -> Result<ExitCode, Failure> {
    let labels = names::labels(&args.label);
    let _lock = volumes.hold()?;
    let made = match &args.name {
        Some(name) => volumes.create(name, labels, false)?,
        None => volumes.create(&new_id()?, labels, true)?,
    };
    println!("{}", made.name);
    Ok(ExitCode::SUCCESS)
}

fn describe(volume: &Named) -> Value {
    json!({
        "CreatedAt": human::rfc3339(volume.about.created),
        "Driver": "local",
        "Labels": volume.about.labels,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

fn list(args: &LsArgs, volumes: &Volumes) -> Result<ExitCode, Failure> {
    let rows: Vec<_> = volumes.list()?.iter().map(describe).collect();
    args.print(&COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs, volumes: &Volumes) -> Result<ExitCode, Failure> {
    args.print(|name| Ok(describe(&volumes.get(name)?)))
}

fn remove(args: &RmArgs, volumes: &Volumes, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    Ok(args.remove(|name| match volumes.remove(name, &containers) {
        Ok(()) => Ok(true),
        Err(VolumeError::Unknown(_)) if args.force => Ok(false),
        Err(error) => Err(Failure::new(error)),
    }))
}

fn prune(args: &PruneArgs, volumes: &Volumes, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let used = Volumes::used(&containers)?;
    let all = volumes.list()?;
    let goes =
        |volume: &&Named| !used.contains(&volume.name) && (args.all || volume.about.anonymous);
    let unused = all.iter().filter(goes).map(|volume| volume.name.as_str());
    Ok(names::each(unused, |name| {
        match volumes.remove(name, &containers) {
            Ok(()) => Ok(true),
            // Taken or removed meanwhile.
            Err(VolumeError::InUse { .. } | VolumeError::Unknown(_)) => Ok(false),
            Err(error) => Err(Failure::new(error)),
        }
    }))
}

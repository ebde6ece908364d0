//! `hull volume …`: directories that containers keep data in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::ask;
use crate::container::new_id;
use crate::failure::Failure;
use crate::listing::{self, Column, Format};
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
    /// How to print: json, or a template such as '{{.Mountpoint}}'
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Take it well when there is no such volume
    #[arg(short, long)]
    force: bool,
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
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
    let labels = args.label.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    });
    let labels: BTreeMap<String, String> = labels.collect();
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
    let all = volumes.list()?;
    let mut out = std::io::stdout().lock();
    if args.quiet {
        all.iter()
            .try_for_each(|volume| writeln!(out, "{}", volume.name))?;
    } else {
        let rows: Vec<_> = all.iter().map(describe).collect();
        listing::print(&mut out, &args.format, &COLUMNS, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs, volumes: &Volumes) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        match volumes.get(name) {
            Ok(volume) => found.push(describe(&volume)),
            Err(error) => code = Failure::new(error).code(1).report(),
        }
    }
    listing::documents(&args.format, &found)?;
    Ok(code)
}

fn remove(args: &RmArgs, volumes: &Volumes, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match volumes.remove(name, &containers) {
            Ok(()) => println!("{name}"),
            Err(VolumeError::Unknown(_)) if args.force => {}
            Err(error) => code = Failure::new(error).code(1).report(),
        }
    }
    Ok(code)
}

fn prune(args: &PruneArgs, volumes: &Volumes, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let used = Volumes::used(&containers)?;
    let mut code = ExitCode::SUCCESS;
    for volume in volumes.list()? {
        if used.contains(&volume.name) || !(args.all || volume.about.anonymous) {
            continue;
        }
        match volumes.remove(&volume.name, &containers) {
            Ok(()) => println!("{}", volume.name),
            // Taken or removed meanwhile.
            Err(VolumeError::InUse { .. } | VolumeError::Unknown(_)) => {}
            Err(error) => code = Failure::new(error).code(1).report(),
        }
    }
    Ok(code)
}

//! `hull image …`: docker's other spelling of the verbs for images, and those it has only here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use image::{ImageConfig, Store};
use serde_json::{Value, json};

use super::{history, images, import, load, rmi, save, tag};
use crate::failure::Failure;
use crate::listing::{self, Format};
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List the images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Show everything that is known of images
    Inspect(InspectArgs),
    /// Show how an image came to be
    History(history::Args),
    /// Remove images that no container runs
    Prune(PruneArgs),
    /// Give an image another name
    Tag(tag::Args),
    /// Load images from an archive
    Load(load::Args),
    /// Save images into an archive
    Save(save::Args),
    /// Make an image of a tar
    Import(import::Args),
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// How to print: json, or a template such as '{{.Config.Cmd}}'
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Images: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Also images that have names
    #[arg(short, long)]
    all: bool,
    /// Only what fits: label=KEY[=VALUE], until=TIME or AGE, and the others of `hull images`
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<images::Filter>,
    /// Accepted for docker's sake: nothing is asked
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    match &args.verb {
        Verb::Ls(args) => images::run(args, root),
        Verb::Rm(args) => rmi::run(args, root),
        Verb::Inspect(args) => inspect(args, root),
        Verb::History(args) => history::run(args, root),
        Verb::Prune(args) => prune(args, root),
        Verb::Tag(args) => tag::run(args, root),
        Verb::Load(args) => load::run(args, root),
        Verb::Save(args) => save::run(args, root),
        Verb::Import(args) => import::run(args, root),
    }
}

fn prune(args: &PruneArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let store = store::open(root.clone())?;
    let mut failure = None;
    let needed = rmi::needed(root.clone())?;
    let removed = store.prune_if(args.all, &mut |listed| {
        if needed.contains_key(&listed.image.id.to_string()) {
            return false;
        }
        let mut filters = args.filter.iter();
        let fits = filters.try_fold(true, |fits, filter| {
            Ok::<_, Failure>(fits && filter.fits(&store, listed)?)
        });
        fits.unwrap_or_else(|error| {
            failure.get_or_insert(error);
            false
        })
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    rmi::report(&removed);
    rmi::report_freed(&removed);
    rmi::sweep(root)?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let store = store::open(root)?;
    let mut found = Vec::new();
    for image in &args.images {
        found.push(describe(&store, image)?);
    }
    listing::documents(&args.format, &found)?;
    Ok(ExitCode::SUCCESS)
}

/// docker's document about an image.
pub(super) fn describe(store: &Store, text: &str) -> Result<Value, Failure> {
    let image = store.resolve(text).map_err(rmi::refused)?;
    let config: ImageConfig = store.config(&image.id)?;
    let names = store
        .names()?
        .into_iter()
        .filter(|name| name.image == image.id);
    let names: BTreeMap<String, _> = names.map(|name| (name.name.clone(), name)).collect();
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for (name, tagged) in &names {
        let Ok(reference) = name.parse::<image::reference::Reference>() else {
            continue;
        };
        if reference.tag().is_some() && reference.digest().is_none() {
            tags.push(reference.familiar());
        }
        digests.extend(
            tagged
                .manifest
                .map(|digest| reference.with_digest(digest).familiar()),
        );
    }
    digests.sort();
    digests.dedup();
    let layers = store.layers(&image)?;
    Ok(json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": config.created,
        "Author": config.author.unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.bytes,
        "Config": full(&config.config),
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Manifest": image.manifest,
        "Layers": layers,
        "Root": image.path,
    }))
}

/// How the image runs, with the fields docker always prints.
fn full(execution: &image::Execution) -> Value {
    let null = |list: &[String]| {
        if list.is_empty() {
            Value::Null
        } else {
            json!(list)
        }
    };
    let mut value = json!(execution);
    if let Some(object) = value.as_object_mut() {
        object.insert("Env".to_owned(), null(&execution.env));
        object.insert("Cmd".to_owned(), null(&execution.cmd));
        object.insert("Entrypoint".to_owned(), null(&execution.entrypoint));
        object.insert("User".to_owned(), json!(execution.user));
        object.insert("WorkingDir".to_owned(), json!(execution.working_dir));
        object.insert("Labels".to_owned(), json!(execution.labels));
    }
    value
}

//! `hull rmi`: takes names away, and images with their last name. What a machine runs, or can be started again, stays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Reference;
use image::{RemoveError, Removed, Store};

use super::ask;
use crate::failure::Failure;
use crate::snapshot::named::Snapshots;
use crate::template::Templates;
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also remove an image given by its id that has several names, and one that a container which does not run or a
    /// snapshot was made of: neither can be started again then
    #[arg(short, long)]
    force: bool,
    /// Images: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let store = store::open(root.clone())?;
    let needed = match args.force {
        true => BTreeMap::new(),
        false => needed(root.clone())?,
    };
    let mut code = ExitCode::SUCCESS;
    for image in &args.images {
        match remove(&store, image, args.force, &needed) {
            Ok(removed) => report(&removed),
            // The others are not kept by this one.
            Err(failure) => code = failure.report(),
        }
    }
    sweep(root)?;
    Ok(code)
}

fn remove(
    store: &Store,
    text: &str,
    force: bool,
    needed: &BTreeMap<String, String>,
) -> Result<Removed, Failure> {
    if let Ok(image) = store.resolve(text)
        && let Some(user) = needed.get(&image.id.to_string())
    {
        let names = store.names()?;
        let names: Vec<_> = names.iter().filter(|name| name.image == image.id).collect();
        let name = text.parse::<Reference>().map(|name| name.to_string());
        // One name of several may go: the image stays.
        let stays = names.len() > 1 && names.iter().any(|there| Ok(&there.name) == name.as_ref());
        if !stays {
            let text = format!("Image {} is in use by {user}", image.id);
            let hint = "Remove that first; with --force it can never be started again.";
            return Err(Failure::new(text).code(1).hint(hint));
        }
    }
    store.remove(text, force).map_err(refused)
}

/// Who needs which image, by its id, besides machines: containers and snapshots that can be started again.
pub(super) fn needed(root: Option<PathBuf>) -> Result<BTreeMap<String, String>, Failure> {
    let containers = ask::containers(root.clone())?.list()?;
    let containers = containers.into_iter().map(|container| {
        let user = format!("container {}", container.config.name);
        (container.config.image_id, user)
    });
    let snapshots = Snapshots::of(&store::directory(root)?).list();
    let snapshots = snapshots.into_iter().flatten().map(|snapshot| {
        let user = format!("snapshot {}", snapshot.name);
        (snapshot.about.config.image_id, user)
    });
    Ok(snapshots.chain(containers).collect())
}

/// Removes the templates of images that are gone.
pub(super) fn sweep(root: Option<PathBuf>) -> Result<(), Failure> {
    let directory = store::directory(root)?;
    Templates::of(&directory).sweep(&directory.join("roots"));
    Ok(())
}

/// docker's lines.
pub(super) fn report(removed: &Removed) {
    for name in &removed.names {
        let familiar = name.parse().map(|name: Reference| name.familiar());
        println!("Untagged: {}", familiar.as_ref().unwrap_or(name));
    }
    for id in &removed.images {
        println!("Deleted: {id}");
    }
}

/// What was freed, in docker's words.
pub(super) fn report_freed(removed: &Removed) {
    println!("Total reclaimed space: {}", human::size(removed.bytes));
}

/// What to do about a refusal.
pub(crate) fn refused(error: RemoveError) -> Failure {
    let hint = match &error {
        RemoveError::Unknown(_) => Some("hull images lists what there is."),
        RemoveError::Ambiguous(_) => Some("Give more figures of the id."),
        RemoveError::InUse(_) => Some("Stop its containers first."),
        RemoveError::Named { .. } => Some("Remove it by each name, or all at once with --force."),
        RemoveError::Store(_) => None,
    };
    let failure = Failure::new(error).code(1);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

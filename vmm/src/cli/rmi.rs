//! `hull rmi`: takes names away, and images with their last name. What a machine runs stays.

use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Reference;
use image::{RemoveError, Removed};

use crate::failure::Failure;
use crate::template::Templates;
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also remove an image given by its id that has several names
    #[arg(short, long)]
    force: bool,
    /// Images: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let store = store::open(root.clone())?;
    let mut code = ExitCode::SUCCESS;
    for image in &args.images {
        match store.remove(image, args.force) {
            Ok(removed) => report(&removed),
            // The others are not kept by this one.
            Err(error) => code = refused(error).report(),
        }
    }
    sweep(root)?;
    Ok(code)
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

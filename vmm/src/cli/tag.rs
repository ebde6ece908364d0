//! `hull tag`: another name for an image of the store.

use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Reference;

use super::rmi::refused;
use crate::failure::Failure;
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a name, an id, or the beginning of an id
    image: String,
    /// Its new name
    name: String,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let name: Reference = args.name.parse()?;
    if name.digest().is_some() {
        return Err(Failure::new("A tag cannot be a digest: that is the image's own").code(1));
    }
    let store = store::open(root)?;
    let image = store.resolve(&args.image).map_err(refused)?;
    store.tag(&name, &image.id, image.manifest.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

//! `hull push`: an image of the store to a registry.

use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Reference;

use crate::failure::Failure;
use crate::registry::{Connection, Show, not_pushed};
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print nothing but the name
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
    /// Image in the store
    image: String,
    /// Where to push it [default: IMAGE]
    target: Option<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let name = reference(&args.image)?;
    let target = match &args.target {
        Some(target) => reference(target)?,
        None => name.clone(),
    };
    let store = store::open(root)?;
    let (client, _) = args.connection.client(Show::unless(args.quiet))?;
    let digest = store.push(&name, &target, &client).map_err(not_pushed)?;
    if !args.quiet {
        println!("Digest: {digest}");
    }
    println!("{target}");
    Ok(ExitCode::SUCCESS)
}

fn reference(text: &str) -> Result<Reference, Failure> {
    Ok(text.strip_prefix("docker://").unwrap_or(text).parse()?)
}

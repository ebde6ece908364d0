//! `hull pull`: an image from a registry into the store.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Source;

use crate::failure::Failure;
use crate::registry::{Fetch, Wanted, When};
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    fetch: Fetch,
    /// Image: NAME[:TAG], NAME@sha256:DIGEST, or an archive or layout on this machine
    image: OsString,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let source = Source::parse(&args.image)?;
    let store = store::open(root)?;
    let Source::Registry(reference) = &source else {
        let wanted = Wanted::Source(source);
        let image = args.fetch.obtain(&store, &wanted, When::Missing)?;
        println!("{}", image.id);
        return Ok(ExitCode::SUCCESS);
    };
    let pulled = args.fetch.pull(&store, reference)?;
    if !args.fetch.quiet {
        let status = match pulled.is_new {
            true => "Downloaded newer image for",
            false => "Image is up to date for",
        };
        println!("Digest: {}", pulled.digest);
        println!("Status: {status} {}", reference.familiar());
    }
    println!("{reference}");
    Ok(ExitCode::SUCCESS)
}

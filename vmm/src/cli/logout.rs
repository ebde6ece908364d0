//! `hull logout`: forget who one is at a registry.

use std::process::ExitCode;

use image::reference::DEFAULT_DOMAIN;

use super::login::registry;
use crate::failure::Failure;
use crate::registry::{Connection, Show};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Host of the registry
    #[arg(default_value = DEFAULT_DOMAIN)]
    registry: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let registry = registry(&args.registry)?;
    let (client, _) = Connection::default().client(Show::Nothing)?;
    let host = registry.domain();
    match client.credentials().erase(host)? {
        true => println!("Removed the credentials for {host}"),
        false => println!("Not logged in to {host}"),
    }
    Ok(ExitCode::SUCCESS)
}

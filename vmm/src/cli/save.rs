//! `hull save`: images into an archive, byte for byte as they came.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Reference;
use image::{Image, Store};

use super::rmi::refused;
use crate::failure::Failure;
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Kind of archive: docker (which is an OCI layout too) or oci
    #[arg(long, default_value = "docker")]
    format: Format,
    /// Images: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Docker,
    Oci,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(
            Failure::new("Standard output is a terminal, not a place for an archive")
                .hint("Name a file with --output, or redirect.")
                .code(1),
        );
    }
    let store = store::open(root)?;
    let images = chosen(&store, &args.images)?;
    let format = match args.format {
        Format::Docker => image::Format::Docker,
        Format::Oci => image::Format::Oci,
    };
    let failed = |error: image::SaveError| Failure::new(error).code(1);
    match &args.output {
        None => store
            .save(&images, format, &mut std::io::stdout().lock())
            .map_err(failed)?,
        Some(path) => {
            // Beside its final place: a broken archive never stands where a whole one is expected.
            let mut partial = path.clone().into_os_string();
            partial.push(".partial");
            let partial = PathBuf::from(partial);
            let write = || -> Result<(), Failure> {
                let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
                store.save(&images, format, &mut file).map_err(failed)?;
                file.flush()?;
                file.get_ref().sync_all()?;
                Ok(std::fs::rename(&partial, path)?)
            };
            if let Err(failure) = write() {
                let _ = std::fs::remove_file(&partial);
                return Err(failure);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Each image once, with the names it was asked for by.
fn chosen(store: &Store, texts: &[String]) -> Result<Vec<(Image, Vec<Reference>)>, Failure> {
    let mut chosen: Vec<(Image, Vec<Reference>)> = Vec::new();
    for text in texts {
        let image = store.resolve(text).map_err(refused)?;
        let name = text.parse::<Reference>().ok().filter(|name| {
            name.digest().is_none()
                && matches!(store.named(name), Ok(Some(there)) if there.id == image.id)
        });
        match chosen.iter_mut().find(|(there, _)| there.id == image.id) {
            Some((_, names)) => names.extend(name),
            None => chosen.push((image, name.into_iter().collect())),
        }
    }
    Ok(chosen)
}

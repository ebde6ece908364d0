//! `hull load`: images of an archive or layout into the store, as they are.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Source;
use image::trust::Origin;

use crate::failure::Failure;
use crate::registry::admit;
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Read this archive instead of standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "source")]
    input: Option<PathBuf>,
    /// Print nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// docker-archive:FILE[:NAME], oci:DIR[:TAG], oci-archive:FILE[:TAG] or - [default: -]
    source: Option<OsString>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let source = match (&args.input, &args.source) {
        // The archive says itself which kind it is.
        (Some(path), _) => Source::DockerArchive {
            path: path.clone(),
            name: None,
        },
        (None, Some(source)) => Source::parse(source)?,
        (None, None) => Source::Stdin,
    };
    if source == Source::Stdin && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::new("Standard input is a terminal, not an archive")
            .hint("Name a file with --input, or pipe an archive in.")
            .code(1));
    }
    admit(&Origin::of(&source))?;
    let loaded = store::open(root)?
        .load(&source)
        .map_err(|error| Failure::new(error).code(1))?;
    for loaded in loaded {
        match &loaded.names[..] {
            _ if args.quiet => println!("{}", loaded.image.id),
            [] => println!("Loaded image ID: {}", loaded.image.id),
            names => names
                .iter()
                .for_each(|name| println!("Loaded image: {}", name.familiar())),
        }
    }
    Ok(ExitCode::SUCCESS)
}

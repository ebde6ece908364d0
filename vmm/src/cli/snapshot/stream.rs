//! `hull snapshot export` and `import`: a snapshot from one store to another.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::Store;

use super::refused;
use crate::failure::Failure;
use crate::snapshot::archive::{self, ArchiveError};
use crate::snapshot::named::{Snapshot, Snapshots};

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the snapshot
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub(super) struct ImportArgs {
    /// Name of the snapshot [default: the one it had]
    name: Option<String>,
    /// The file that `hull snapshot export` wrote; - is standard input
    file: PathBuf,
}

pub(super) fn export(args: &ExportArgs, snapshots: &Snapshots) -> Result<ExitCode, Failure> {
    if args.output.is_none() && io::stdout().is_terminal() {
        let text = "Standard output is a terminal, not a place for an archive";
        return Err(Failure::new(text)
            .hint("Name a file with --output, or redirect.")
            .code(1));
    }
    let snapshot = snapshots.get(&args.name).map_err(refused)?;
    match &args.output {
        None => archive::write(&snapshot, &mut io::stdout().lock()).map_err(failed)?,
        Some(path) => {
            // Beside its final place: a broken archive never stands where a whole one is expected.
            let mut partial = path.clone().into_os_string();
            partial.push(".partial");
            let partial = PathBuf::from(partial);
            if let Err(failure) = write(&snapshot, &partial, path) {
                let _ = std::fs::remove_file(&partial);
                return Err(failure);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(snapshot: &Snapshot, partial: &Path, path: &Path) -> Result<(), Failure> {
    let of_file = |error: io::Error| {
        Failure::new(format!("{} cannot be written: {error}", path.display())).code(1)
    };
    let mut file = BufWriter::new(File::create(partial).map_err(of_file)?);
    archive::write(snapshot, &mut file).map_err(failed)?;
    file.flush().map_err(of_file)?;
    file.get_ref().sync_all().map_err(of_file)?;
    std::fs::rename(partial, path).map_err(of_file)
}

pub(super) fn import(
    args: &ImportArgs,
    snapshots: &Snapshots,
    store: &Store,
) -> Result<ExitCode, Failure> {
    let from: Box<dyn Read> = match args.file.as_os_str().as_encoded_bytes() {
        b"-" if io::stdin().is_terminal() => {
            return Err(Failure::new("Standard input is a terminal, not an archive")
                .hint("Name a file, or pipe an archive in.")
                .code(1));
        }
        b"-" => Box::new(io::stdin()),
        _ => Box::new(File::open(&args.file).map_err(|error| {
            Failure::new(format!("{} cannot be opened: {error}", args.file.display())).code(1)
        })?),
    };
    let snapshot = archive::read(from, snapshots, args.name.as_deref()).map_err(failed)?;
    println!("{}", snapshot.name);
    if let Err(failure) = super::image_of(&snapshot, store) {
        // It is there, and is of use as soon as its image is.
        eprintln!("note: {}", failure.line());
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: ArchiveError) -> Failure {
    let hint = match error {
        ArchiveError::Snapshot(error) => return refused(error),
        ArchiveError::Packed("zstd") => {
            Some("Unpack it on the way: zstd -dc FILE | hull snapshot import -")
        }
        ArchiveError::Packed(_) => {
            Some("Unpack it on the way: gzip -dc FILE | hull snapshot import -")
        }
        ArchiveError::Tar(_) | ArchiveError::Foreign(_) => {
            Some("It must be all of what one `hull snapshot export` wrote.")
        }
        _ => None,
    };
    let failure = Failure::new(error).code(1);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

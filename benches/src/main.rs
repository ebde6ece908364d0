//! The scenarios that this project is measured by, each with its target. `cargo xtask bench` runs the first part in the
//! lab with `--icount`, where a millisecond is a million instructions on any machine, and the second on the machine itself.

mod compared;
mod conversion;
mod hull;
mod measure;
mod pull;
mod table;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut table = table::Table::new();
    match std::env::args().nth(1).as_deref() {
        Some("lab") => {
            let place = tempfile::tempdir_in("/dev/shm")?;
            hull::measure(place.path(), &mut table)?;
            compared::measure(place.path(), &mut table)?;
        }
        Some("machine") => {
            conversion::measure(&mut table)?;
            pull::measure(&mut table)?;
        }
        _ => bail!("Which part: lab or machine? `cargo xtask bench` runs both"),
    }
    Ok(())
}

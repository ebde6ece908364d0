//! A file that is locked for as long as somebody changes what lies beside it.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Waits until nobody else has it; it is let go with the file. An error comes with what was being done.
pub(crate) fn wait(path: &Path) -> Result<File, (&'static str, io::Error)> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| ("Opening", error))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| ("Locking", error.into()))?;
    Ok(file)
}

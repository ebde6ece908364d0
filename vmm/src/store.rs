//! Where this user's image store is.

use std::env;
use std::path::PathBuf;

use image::Store;

use crate::failure::Failure;

/// Where the store of root is.
const SYSTEM: &str = "/var/lib/hull";

/// The directory: as given, or that of the user.
pub(crate) fn directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(directory) = given {
        return Ok(directory);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(SYSTEM.into());
    }
    let data = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".local/share"));
    match data.or_else(home) {
        Some(data) => Ok(data.join("hull")),
        None => Err(
            Failure::new("There is no directory for images: HOME is not set")
                .hint("Set HOME or XDG_DATA_HOME, or name one with --root."),
        ),
    }
}

/// Opens the store, making it when it is not there.
pub(crate) fn open(given: Option<PathBuf>) -> Result<Store, Failure> {
    Ok(Store::open(&directory(given)?)?)
}

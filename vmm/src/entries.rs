//! Files on their way between a container and a tar, or the host's own file system, as the entries that guest init sends
//! and takes. What comes from a guest is hostile: each name is checked, and nothing is followed.

use std::io;
use std::path::PathBuf;

use image::archive::TarError;
use protocol::FrameError;

use crate::failure::escaped;

pub(crate) mod disk;
pub(crate) mod tar;

/// Why files cannot be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// A file of the host's.
    #[error("{doing} {} failed", .path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The archive that is read.
    #[error("The archive on standard input cannot be used")]
    Archive(#[from] TarError),
    /// A path that leads out of where it is to go.
    #[error("The name {} is no path within what is copied", escaped(.0))]
    Name(String),
    /// Other than files.
    #[error("The guest sent something else than files")]
    Unexpected,
    /// The guest's end of the stream, whose own word says more.
    #[error("The stream of files was cut short")]
    Stream(#[source] io::Error),
    /// The same.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl CopyError {
    /// Whether this side is the reason, and not the guest's end of the stream, whose own word then says more.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }
}

/// Whose the copies are, and what else they keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// Owner and group; else they are whoever's copies them.
    pub(crate) owner: bool,
}

/// The components of a path, which are names and nothing else.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, CopyError> {
    let names: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .collect();
    let bad = |name: &&[u8]| matches!(*name, b"." | b"..") || name.contains(&0);
    match names.iter().any(bad) {
        true => Err(CopyError::Name(String::from_utf8_lossy(path).into_owned())),
        false => Ok(names),
    }
}

#[cfg(test)]
mod tests;

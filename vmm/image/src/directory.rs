//! A plain directory of the host as a layer: walked in a fixed order, written as a tar while it is
//! read. Never follows a link, never leaves the file system it starts on, opens regular files only.
//! Knows no store.

mod walk;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub(crate) use walk::Tar;

use crate::convert::Layers;
use crate::stream::Expected;
use crate::{Digest, Hasher};

/// Why a directory cannot become an image.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A file or directory of it cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that became shorter while it was read.
    #[error("{0:?} changed while it was read")]
    Changed(PathBuf),
    /// More directories within directories than is sane.
    #[error("{0:?} is nested too deep")]
    Depth(PathBuf),
}

/// What a directory looked like as a whole, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Of every name and all that `stat` says of it.
    pub(crate) digest: Digest,
    /// Latest change of any of it, in seconds since 1970.
    pub(crate) changed: i64,
}

/// Looks at everything in a directory, but opens no file.
pub(crate) fn fingerprint(path: &Path) -> Result<Fingerprint, WalkError> {
    let mut hasher = Hasher::new();
    let mut changed = 0;
    let mut walk = walk::Walk::new(path)?;
    while let Some(found) = walk.next()? {
        let status = &found.status;
        hasher.update(&(found.path.len() as u64).to_le_bytes());
        hasher.update(&found.path);
        for number in [
            status.st_dev,
            status.st_ino,
            status.st_size.cast_unsigned(),
            u64::from(status.st_mode),
            u64::from(status.st_uid) << 32 | u64::from(status.st_gid),
            status.st_mtime.cast_unsigned(),
            status.st_mtime_nsec,
            status.st_ctime.cast_unsigned(),
            status.st_ctime_nsec,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        changed = changed.max(status.st_ctime);
    }
    Ok(Fingerprint {
        digest: hasher.finish(),
        changed,
    })
}

/// Reads a whole directory to know the digest and size of its tar.
pub(crate) fn measure(path: &Path) -> Result<Expected, WalkError> {
    let mut tar = Tar::new(path)?;
    let mut hasher = Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = tar.read_piece(&mut buffer)?;
        if count == 0 {
            let diff_id = hasher.finish();
            return Ok(Expected {
                digest: Some(diff_id),
                size,
                diff_id,
            });
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        size += count as u64;
    }
}

/// The configuration of an image made of a directory: a shell, and nothing else to go by.
pub(crate) fn config(diff_id: &Digest) -> String {
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    )
}

/// The only layer of such an image.
pub(crate) struct Layer<'a>(pub(crate) &'a Path);

impl Layers for Layer<'_> {
    fn open(&mut self, _position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Tar::new(self.0).map_err(io::Error::other)?))
    }
}

#[cfg(test)]
mod tests;

//! Remembers which image a local archive held, by what `stat` says of the file: an archive that was
//! converted once is not even opened again. Only a cache: what is lost or damaged is found anew.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Image, Store};
use crate::Digest;
use crate::reference::Source;

/// A file changed as recently as this could change again without its times telling.
const SETTLED: Duration = Duration::from_secs(1);

/// One file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Where this is remembered.
    name: String,
    stamp: Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    stamp: Stamp,
    image: Digest,
}

impl Stamp {
    fn of(file: &File) -> Option<Self> {
        let status = file.metadata().ok()?;
        Some(Self {
            device: status.dev(),
            inode: status.ino(),
            size: status.size(),
            mtime: (status.mtime(), status.mtime_nsec()),
            ctime: (status.ctime(), status.ctime_nsec()),
        })
    }

    fn is_settled(&self) -> bool {
        let seconds = u64::try_from(self.ctime.0).unwrap_or(u64::MAX);
        UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .and_then(|changed| SystemTime::now().duration_since(changed).ok())
            .is_some_and(|age| age > SETTLED + Duration::from_secs(1))
    }
}

impl Seen {
    /// What `source` looks like through the open file `file` at `path`.
    pub(super) fn of(source: &Source, path: &Path, file: &File) -> Option<Self> {
        let stamp = Stamp::of(file)?;
        // The transport, path and tag as typed, and where a relative path starts.
        let mut key = source.to_string();
        if path.is_relative() {
            key.push('\0');
            key.push_str(&std::env::current_dir().ok()?.to_string_lossy());
        }
        Some(Self {
            name: format!("sources/{}", Digest::of(key.as_bytes()).hex()),
            stamp,
        })
    }
}

impl Store {
    /// The image the file held when it last looked like this.
    pub(super) fn remembered(&self, seen: &Seen) -> Option<Image> {
        let bytes = self.directory.read(&seen.name).ok()??;
        let remembered: Remembered = serde_json::from_slice(&bytes).ok()?;
        if remembered.stamp != seen.stamp {
            return None;
        }
        self.find(&remembered.image).ok()?
    }

    /// Remembers it, if the file is still the same and has been for a while.
    pub(super) fn remember(&self, seen: &Seen, path: &Path, image: &Image) {
        let now = crate::files::open(path)
            .ok()
            .and_then(|file| Stamp::of(&file));
        if now.as_ref() != Some(&seen.stamp) || !seen.stamp.is_settled() {
            return;
        }
        let remembered = Remembered {
            stamp: seen.stamp.clone(),
            image: image.id,
        };
        if let Ok(bytes) = serde_json::to_vec(&remembered) {
            // Only a cache: without it the next run looks into the archive again.
            let _ = self.directory.write_cache(&seen.name, &bytes);
        }
    }
}

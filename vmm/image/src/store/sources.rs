//! Remembers which image a local archive held, by what `stat` says of the file: an archive that was
//! converted once is not even read again. Only a cache: what is lost or damaged is found anew.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Image, Store};
use crate::Digest;
use crate::directory::Fingerprint;
use crate::reference::Source;

/// A file changed as recently as this could change again without its times telling.
const SETTLED: Duration = Duration::from_secs(2);

/// A source as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Names the place of this memory: transport, path, tag.
    key: Digest,
    /// What it looked like.
    stamp: Digest,
    /// Last change, in seconds since 1970.
    changed: i64,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    stamp: Digest,
    image: Digest,
}

/// Transport, path and tag as typed, and where a relative path starts.
fn key(source: &Source, path: &Path) -> Option<Digest> {
    let mut key = format!("{source:?}");
    if path.is_relative() {
        key.push_str(&format!("{:?}", std::env::current_dir().ok()?));
    }
    Some(Digest::of(key.as_bytes()))
}

impl Seen {
    /// What `source` looks like through the open file `file` at `path`.
    pub(super) fn file(source: &Source, path: &Path, file: &File) -> Option<Self> {
        let status = file.metadata().ok()?;
        let stamp = format!(
            "{} {} {} {}.{} {}.{}",
            status.dev(),
            status.ino(),
            status.size(),
            status.mtime(),
            status.mtime_nsec(),
            status.ctime(),
            status.ctime_nsec()
        );
        let (stamp, changed) = (Digest::of(stamp.as_bytes()), status.ctime());
        Some(Self {
            key: key(source, path)?,
            stamp,
            changed,
        })
    }

    /// What the directory at `path` looks like as a whole.
    pub(super) fn directory(source: &Source, path: &Path, all: Fingerprint) -> Option<Self> {
        Some(Self {
            key: key(source, path)?,
            stamp: all.digest,
            changed: all.changed,
        })
    }

    fn is_settled(&self) -> bool {
        let changed = Duration::from_secs(u64::try_from(self.changed).unwrap_or(u64::MAX));
        let changed = UNIX_EPOCH.checked_add(changed);
        changed
            .and_then(|changed| SystemTime::now().duration_since(changed).ok())
            .is_some_and(|age| age > SETTLED)
    }

    fn file_name(&self) -> String {
        format!("{SOURCES}/{}", self.key.hex())
    }
}

/// Directory of these memories within the store.
pub(super) const SOURCES: &str = "sources";

impl Store {
    /// The image the source held when it last looked like this.
    pub(super) fn remembered(&self, seen: &Seen) -> Option<Image> {
        let bytes = self.directory.read(&seen.file_name()).ok()??;
        let remembered: Remembered = serde_json::from_slice(&bytes).ok()?;
        if remembered.stamp != seen.stamp {
            return None;
        }
        self.find(&remembered.image).ok()?
    }

    /// Whether the memory in file `name` is of one of `images`.
    pub(super) fn is_remembered(&self, name: &str, images: &HashSet<Digest>) -> bool {
        let remembered = self.directory.read_json::<Remembered>(name);
        matches!(remembered, Ok(Some(remembered)) if images.contains(&remembered.image))
    }

    /// Remembers it, if it has not changed for a while.
    pub(super) fn remember(&self, seen: Option<Seen>, image: &Image) {
        let Some(seen) = seen.filter(Seen::is_settled) else {
            return;
        };
        let remembered = Remembered {
            stamp: seen.stamp,
            image: image.id,
        };
        if let Ok(bytes) = serde_json::to_vec(&remembered) {
            // Only a cache: without it the next run looks into the archive again.
            let _ = self.directory.write_cache(&seen.file_name(), &bytes);
        }
    }
}

//! What happened to containers: a line of JSON each, in one file beside them all, of which a second, older part is kept.
//! Whoever does something writes it down under the file's lock; nobody has to be asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::Container;
use crate::human;

/// The file's name in the directory of all containers; the older part has `.1` after it.
const NAME: &str = "events";
/// Bytes after which the file is put away.
const LONGEST: u64 = 1 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When, in nanoseconds since 1970.
    pub(crate) time: u64,
    /// What, in docker's word.
    pub(crate) action: String,
    /// To which container.
    pub(crate) id: String,
    /// Its image, as it was typed.
    pub(crate) image: String,
    /// Its name and labels, and what belongs to the action.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Writes down that this happened, with one more attribute if there is one to tell. Nothing depends on it, so that a full
/// disk loses it.
pub(crate) fn note(container: &Container, action: &str, more: Option<(&str, String)>) {
    let config = &container.config;
    let mut attributes = config.labels.clone();
    attributes.insert("image".to_owned(), config.image.clone());
    attributes.insert("name".to_owned(), config.name.clone());
    attributes.extend(more.map(|(key, value)| (key.to_owned(), value)));
    let event = Event {
        time: human::nanoseconds(),
        action: action.to_owned(),
        id: config.id.clone(),
        image: config.image.clone(),
        attributes,
    };
    if let Some(all) = container.path.parent() {
        let _ = write(&all.join(NAME), &event, LONGEST);
    }
}

fn write(path: &Path, event: &Event, longest: u64) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW);
    loop {
        let mut file = options.open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let data = file.metadata()?;
        // Put away by another before the lock was had.
        if std::fs::symlink_metadata(path).map_or(true, |there| there.ino() != data.ino()) {
            continue;
        }
        if data.len() < longest {
            return file.write_all(&line);
        }
        std::fs::rename(path, older(path))?;
    }
}

/// The files, the older part first.
pub(crate) fn files(containers: &Path) -> [PathBuf; 2] {
    let path = containers.join(NAME);
    [older(&path), path]
}

fn older(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

#[cfg(test)]
mod tests;

//! What is kept by name beside the image store: volumes and networks. Refuses to know what they are for.
//!
//! Each is a directory, with a document in it of what is said of it: with that it is one, and what has lost it or never had it is
//! none, and is used again by the next of its name. Whoever makes or removes one holds the lock beside them.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{cli, lock};

/// What of the host's files failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {} failed", .path.display())]
pub(crate) struct FileError {
    pub(crate) action: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl FileError {
    /// An error of what was being done to a file.
    pub(crate) fn new(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// All that a user has of one kind.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    /// What the document is called.
    about: &'static str,
}

impl Kept {
    /// Those in this directory of the one at `root`, which is made where it is missing.
    pub(crate) fn open(
        root: &Path,
        directory: &str,
        mode: u32,
        about: &'static str,
    ) -> Result<Self, FileError> {
        let root = std::path::absolute(root).map_err(|e| FileError::new("Finding", root, e))?;
        let path = root.join(directory);
        make_directory(&path, mode)?;
        Ok(Self { path, about })
    }

    /// Keeps them as they are until it is dropped.
    pub(crate) fn hold(&self) -> Result<File, FileError> {
        let path = self.path.join("lock");
        lock::wait(&path).map_err(|(action, error)| FileError::new(action, &path, error))
    }

    /// Where one is, or would be.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes one, with a directory in it if it is to have one. The lock is held.
    pub(crate) fn make(
        &self,
        name: &str,
        about: &impl Serialize,
        inside: Option<&str>,
    ) -> Result<(), FileError> {
        let directory = self.directory(name);
        // Root's machines come here as users of their own, by a descriptor.
        make_directory(&directory, 0o711)?;
        if let Some(inside) = inside {
            make_directory(&directory.join(inside), 0o755)?;
        }
        // Last: with it, it is one.
        let (new, path) = (directory.join("new"), directory.join(self.about));
        let text = serde_json::to_vec(about).map_err(|e| FileError::new("Writing", &new, e))?;
        std::fs::write(&new, text).map_err(|error| FileError::new("Writing", &new, error))?;
        std::fs::rename(&new, &path).map_err(|error| FileError::new("Writing", &path, error))
    }

    /// What is said of the one of this name, if there is one.
    pub(crate) fn about<A: DeserializeOwned>(&self, name: &str) -> Result<Option<A>, FileError> {
        if !cli::is_name(name) {
            return Ok(None);
        }
        let path = self.directory(name).join(self.about);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| FileError::new("Reading", &path, error))?,
        };
        let about = serde_json::from_slice(&text);
        about.map_err(|error| FileError::new("Reading", &path, error))
    }

    /// All of them, by name.
    pub(crate) fn all<A: DeserializeOwned>(&self) -> Result<Vec<(String, A)>, FileError> {
        let entries = std::fs::read_dir(&self.path);
        let entries = entries.map_err(|error| FileError::new("Reading", &self.path, error))?;
        let mut all: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let about = self.about(&name).ok()??;
                Some((name, about))
            })
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    /// Removes one. The lock is held.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        let directory = self.directory(name);
        let about = directory.join(self.about);
        // First what makes it one.
        std::fs::remove_file(&about).map_err(|error| FileError::new("Removing", &about, error))?;
        std::fs::remove_dir_all(&directory)
            .map_err(|error| FileError::new("Removing", &directory, error))
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), FileError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(FileError::new("Making", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

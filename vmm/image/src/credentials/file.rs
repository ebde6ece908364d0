//! Reads and changes one credentials file: bounded, locked, atomically, for its owner's eyes. Knows not what an entry
//! means.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::{Map, Value};

use super::CredentialsError;

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The document, or none where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Map<String, Value>>, CredentialsError> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_MAX).read_to_end(&mut text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    }
    .map_err(|source| failed(path, source))?;
    if text.trim_ascii().is_empty() {
        return Ok(Some(Map::new()));
    }
    // serde_json's own words could quote the content.
    match serde_json::from_slice(&text) {
        Ok(Value::Object(document)) => Ok(Some(document)),
        _ => Err(CredentialsError::Form {
            path: path.to_owned(),
            reason: "it is no JSON object",
        }),
    }
}

/// Changes the entries (`auths`) under a lock and replaces the file at once. Everything else in it stays.
pub(super) fn change(
    path: &Path,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), CredentialsError> {
    let fail = |source| failed(path, source);
    // A link, as keepers of dot files make them, stays: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(fail)?;
    let lock = File::open(&directory).map_err(fail)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| fail(error.into()))?;
    let mut document = read(&path)?.unwrap_or_default();
    let mut entries = match document.remove("auths") {
        Some(Value::Object(entries)) => entries,
        _ => Map::new(),
    };
    edit(&mut entries);
    document.insert("auths".to_owned(), Value::Object(entries));
    let text =
        serde_json::to_vec_pretty(&Value::Object(document)).map_err(|error| fail(error.into()))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = directory.join(name);
    let written = write(&fresh, &text).and_then(|()| fs::rename(&fresh, &path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written.and_then(|()| lock.sync_all()).map_err(fail)
}

/// Writes a new file, mode 0600, to the disk.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let options = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
    };
    let mut file = match options().open(path) {
        // Left by a process of the same number that died.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options().open(path)?
        }
        other => other?,
    };
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn failed(path: &Path, source: io::Error) -> CredentialsError {
    CredentialsError::File {
        path: path.to_owned(),
        source,
    }
}

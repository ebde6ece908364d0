//! Small changes to the kernel's source that no option makes, from `kernel-config/patches/`.
//!
//! Each only makes something quicker: where one does not fit a later release, the kernel is built without it, and says so.
//! Knows the files and the program `patch`; knows nothing of what is in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::progress;

/// The patches, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Patches {
    files: Vec<(PathBuf, String)>,
}

impl Patches {
    /// All `*.patch` files of a directory.
    pub(super) fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        let entries = fs::read_dir(directory)
            .with_context(|| format!("Cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "patch")
            {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("Cannot read {}", path.display()))?;
                files.push((path, text));
            }
        }
        files.sort();
        Ok(Self { files })
    }

    /// What the patches change, as one text: another text makes another kernel.
    pub(super) fn text(&self) -> String {
        self.files.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Changes the tree. A patch is applied whole or not at all.
    pub(super) fn apply(&self, tree: &Path) -> anyhow::Result<()> {
        for (path, _) in &self.files {
            if !patch(tree, path, true)? {
                progress::note(&format!(
                    "{} does not fit this source: the kernel is built without it and a little slower",
                    path.display()
                ));
            } else if !patch(tree, path, false)? {
                bail!("{} could be applied, and then could not", path.display());
            }
        }
        Ok(())
    }
}

/// Runs `patch`; says whether all of it fits.
fn patch(tree: &Path, file: &Path, dry: bool) -> anyhow::Result<bool> {
    let mut patch = Command::new("patch");
    patch
        .args([
            "--strip=1",
            "--forward",
            "--batch",
            "--no-backup-if-mismatch",
        ])
        .arg("--directory")
        .arg(tree)
        .arg("--input")
        .arg(file);
    if dry {
        patch.arg("--dry-run");
    }
    let output = patch
        .stdin(Stdio::null())
        .output()
        .context("Cannot run patch (apt-get install patch)")?;
    Ok(output.status.success())
}

#[cfg(test)]
mod tests;

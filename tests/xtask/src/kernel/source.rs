//! Unpacks a kernel source tarball once. Knows tarballs and where their trees are kept; knows nothing of configuration.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::fragment::digest;
use super::patches::Patches;
use super::pin::Pin;
use crate::progress;

/// Parts of the source that no configuration of ours compiles: only their Kconfig files and Makefiles are read.
const NEVER_COMPILED: &[&str] = &[
    "*/Documentation/*.rst",
    "*/Documentation/devicetree/*",
    "*/drivers/gpu/*.[ch]",
    "*/drivers/media/*.[ch]",
    "*/drivers/staging/*.[ch]",
    "*/drivers/infiniband/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
    "*/drivers/scsi/*.[ch]",
    "*/drivers/iio/*.[ch]",
    "*/sound/*.[ch]",
    "*/tools/testing/*",
    "*/tools/perf/*",
];

/// An unpacked source.
#[derive(Debug)]
pub(super) struct Source {
    /// The tree's top directory.
    pub(super) tree: PathBuf,
    /// What its Makefile calls itself, such as `6.12.117`.
    pub(super) release: String,
}

/// The source of a tarball (without one: Debian's) with our patches, unpacked under `directory` if it is not there yet.
///
/// The caller holds the lock on `directory`.
pub(super) fn unpacked(
    directory: &Path,
    tarball: Option<&Path>,
    pin: &Pin,
    patches: &Patches,
) -> anyhow::Result<Source> {
    let tarball = match tarball {
        Some(path) => path.to_path_buf(),
        None => PathBuf::from(format!("/usr/src/linux-source-{}.tar.xz", pin.series())),
    };
    let facts = fs::metadata(&tarball).with_context(|| {
        let series = pin.series();
        format!(
            "There is no kernel source at {}. Install Debian's with: apt-get install linux-source-{series} \
             (or name another with --source TARBALL)",
            tarball.display()
        )
    })?;
    // A tarball that was replaced has another size, time or inode: its tree must not be taken for the old one's.
    let identity = format!("{}/{}/{}/", facts.len(), facts.mtime(), facts.ino());
    let name = format!("source-{}", digest(&(identity + &patches.text())));
    let home = directory.join(&name);
    let tree = home.join("linux");
    if !tree.exists() {
        remove_others(directory, &name)?;
        progress::step(&format!("Unpacking {}", tarball.display()), || {
            unpack(&tarball, &home, &tree, patches)
        })?;
    }
    let makefile = tree.join("Makefile");
    let text = fs::read_to_string(&makefile).with_context(|| {
        format!(
            "{} holds no kernel source: cannot read {}",
            tarball.display(),
            makefile.display()
        )
    })?;
    let release =
        release(&text).with_context(|| format!("{} names no version", makefile.display()))?;
    if !pin.accepts(&release) {
        bail!(
            "{} is Linux {release}, but kernel-config/ is written for {}",
            tarball.display(),
            pin.series()
        );
    }
    Ok(Source { tree, release })
}

/// Unpacks beside the place where the tree belongs and renames, so that a tree that is there is whole.
fn unpack(tarball: &Path, home: &Path, tree: &Path, patches: &Patches) -> anyhow::Result<()> {
    fs::create_dir_all(home).with_context(|| format!("Cannot create {}", home.display()))?;
    let staged = tempfile::Builder::new().prefix(".new-").tempdir_in(home)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(tarball)
        .arg("--directory")
        .arg(staged.path())
        .arg("--strip-components=1");
    tar.args(
        NEVER_COMPILED
            .iter()
            .map(|pattern| format!("--exclude={pattern}")),
    );
    let ended = tar.output().context("Cannot run tar")?;
    if !ended.status.success() {
        bail!(
            "Cannot unpack {}: {}",
            tarball.display(),
            String::from_utf8_lossy(&ended.stderr).trim_end()
        );
    }
    patches.apply(staged.path())?;
    fs::rename(staged.keep(), tree)
        .with_context(|| format!("Cannot move the source to {}", tree.display()))
}

/// Removes the trees of other tarballs and patches, more than a gigabyte each with what was compiled from them, and what
/// builds that were killed left behind.
fn remove_others(directory: &Path, keep: &str) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("Cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (name.starts_with("source-") || name.starts_with(".new-")) && name != keep {
            let path = entry.path();
            fs::remove_dir_all(&path)
                .with_context(|| format!("Cannot remove what is left in {}", path.display()))?;
        }
    }
    Ok(())
}

/// The release that a kernel's top Makefile states, such as `6.12.117`.
fn release(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        let mut values = makefile
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(key, _)| key.trim() == name);
        values.next().map(|(_, value)| value.trim())
    };
    let parts = [value("VERSION")?, value("PATCHLEVEL")?, value("SUBLEVEL")?];
    parts
        .iter()
        .all(|part| part.parse::<u16>().is_ok())
        .then(|| parts.join("."))
}

#[cfg(test)]
mod tests;

//! A kernel configuration as a list of wanted options, each with its reason, and the check that they all took effect.
//! Knows the file format and Kconfig's output; runs nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Changes when the way a kernel is built changes, so that kernels built the old way are not taken from the cache.
const RECIPE: &str = "recipe 1";

/// Options by name. A later file overrides an earlier one.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    options: BTreeMap<String, String>,
}

impl Fragment {
    /// Adds the options of a file in `kernel-config/`.
    pub(super) fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let text =
            fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()))?;
        self.add(&text)
            .with_context(|| format!("{} is wrong", path.display()))
    }

    /// Adds the lines `CONFIG_NAME=value # reason`. Each must have a reason, and no name may come twice in one file.
    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let mut added = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((setting, reason)) = line.split_once(" #") else {
                bail!("Line {number} gives no reason: {line}")
            };
            let Some((name, value)) = setting.trim().split_once('=') else {
                bail!("Line {number} sets nothing: {line}")
            };
            if !name.starts_with("CONFIG_") || value.is_empty() || reason.trim().is_empty() {
                bail!("Line {number} is not of the form CONFIG_NAME=value # reason: {line}");
            }
            if added.insert(name.to_owned(), value.to_owned()).is_some() {
                bail!("Line {number} sets {name} a second time");
            }
        }
        self.options.extend(added);
        Ok(())
    }

    /// The options in Kconfig's own format.
    pub(super) fn kconfig(&self) -> String {
        self.options
            .iter()
            .fold(String::new(), |mut text, (name, value)| {
                let _ = writeln!(text, "{name}={value}");
                text
            })
    }

    /// A name for the kernel that these options, this release and these patches make: 16 hexadecimal digits.
    pub(super) fn key(&self, release: &str, patches: &str) -> String {
        digest(&format!("{RECIPE}\n{release}\n{}{patches}", self.kconfig()))
    }

    /// Compares with the `.config` that Kconfig made of the options: Kconfig drops what a dependency forbids and says nothing.
    pub(super) fn check(&self, config: &str) -> anyhow::Result<()> {
        let got: BTreeMap<&str, &str> = config
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let lost: Vec<String> = self
            .options
            .iter()
            .filter_map(|(name, wanted)| {
                let got = got.get(name.as_str()).copied().unwrap_or("n");
                (got != wanted).then(|| {
                    format!("{name}: {wanted} is asked for, {got} is what Kconfig made of it")
                })
            })
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        bail!(
            "Kconfig did not take over {} of {} options (a dependency is missing, or another option forces the value):\n  {}",
            lost.len(),
            self.options.len(),
            lost.join("\n  ")
        )
    }
}

/// 16 hexadecimal digits for a text (FNV-1a): stable for ever, and nobody gains by making two texts collide.
pub(super) fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;

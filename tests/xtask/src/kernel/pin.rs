//! `kernel-config/VERSION`: which kernel the configuration was written for and last tested with. Knows no file but that one.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// The pinned version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// The release that was tested, such as `6.12.117`. Sources of the same series (`6.12`) are accepted.
    tested: String,
}

impl Pin {
    /// Reads the file: one release on a line of its own, comments behind `#`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is wrong", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim());
        let Some(tested) = lines.find(|line| !line.is_empty()) else {
            bail!("It names no release")
        };
        if tested.split('.').count() != 3
            || tested.split('.').any(|part| part.parse::<u16>().is_err())
        {
            bail!("{tested:?} is not a release like 6.12.117");
        }
        Ok(Self {
            tested: tested.to_owned(),
        })
    }

    /// `6.12` of `6.12.117`.
    pub(super) fn series(&self) -> &str {
        self.tested
            .rsplit_once('.')
            .map_or(self.tested.as_str(), |(series, _)| series)
    }

    /// Whether a source of this release may be built.
    pub(super) fn accepts(&self, release: &str) -> bool {
        release == self.series()
            || release
                .strip_prefix(self.series())
                .is_some_and(|rest| rest.starts_with('.'))
    }

    /// How a release that is accepted relates to the tested one, as words.
    pub(super) fn relation(&self, release: &str) -> String {
        if release == self.tested {
            "the pinned version".to_owned()
        } else {
            format!("not the pinned {}, but of the same series", self.tested)
        }
    }
}

#[cfg(test)]
mod tests;

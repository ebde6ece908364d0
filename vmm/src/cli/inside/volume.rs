//! `-v [SOURCE:]TARGET[:OPTIONS]` and `--mount type=bind|volume,…`. Looks at no file.

use std::path::PathBuf;
use std::str::FromStr;

use super::tmpfs::{TmpfsError, clean};

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory or file of the host, as typed.
    Path(PathBuf),
    /// A volume by its name.
    Name(String),
    /// A volume that only this container has.
    Nameless,
}

/// A directory or file of the host that is to be seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// What it is.
    pub(crate) source: Source,
    /// Where it is mounted: absolute and clean.
    pub(crate) target: String,
    /// Nothing in it changes.
    pub(crate) read_only: bool,
    /// An empty volume gets what the image has there.
    pub(crate) fill: bool,
    /// A directory of the host is made when it is missing.
    pub(crate) make: bool,
}

/// What is no volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error(transparent)]
    Target(#[from] TmpfsError),
    #[error(
        "write [SOURCE:]TARGET[:OPTIONS]: a source is a path that begins with / or ., or a volume's name"
    )]
    Syntax,
    #[error(
        "{0:?} is no name of a volume: letters, digits, and then also `_`, `.` and `-`, two at least. A path begins with / or ."
    )]
    Name(String),
    #[error("no option {0:?}: there are ro, rw and nocopy")]
    Option(String),
}

impl Volume {
    /// What an image asks for with VOLUME; none where nothing may be mounted.
    pub(crate) fn of_image(path: &str) -> Option<Self> {
        Some(Self {
            source: Source::Nameless,
            target: clean(path).ok()?,
            read_only: false,
            fill: true,
            make: false,
        })
    }
}

impl FromStr for Volume {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match *parts.as_slice() {
            [target] => (Source::Nameless, target, ""),
            [source, target] => (source_of(source)?, target, ""),
            [source, target, options] => (source_of(source)?, target, options),
            _ => return Err(VolumeError::Syntax),
        };
        let named = !matches!(source, Source::Path(_));
        let mut volume = Self {
            source,
            target: clean(target)?,
            read_only: false,
            fill: named,
            make: true,
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => volume.read_only = true,
                "rw" => volume.read_only = false,
                "nocopy" => volume.fill = false,
                // SELinux's labels and a Mac's caches: there is nothing of the kind.
                "z" | "Z" | "cached" | "delegated" | "consistent" => {}
                _ => return Err(VolumeError::Option(option.to_owned())),
            }
        }
        Ok(volume)
    }
}

/// A path, or a volume's name.
pub(super) fn source_of(text: &str) -> Result<Source, VolumeError> {
    match text.starts_with(['/', '.']) {
        true => Ok(Source::Path(text.into())),
        false if is_name(text) => Ok(Source::Name(text.to_owned())),
        false => Err(VolumeError::Name(text.to_owned())),
    }
}

/// docker's rule.
pub(crate) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    first && (2..=200).contains(&text.len()) && characters.all(rest)
}

//! Where an image came from, as a policy sees it: a source, and what is none. Written down by the store.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use super::scope;
use crate::Digest;
use crate::reference::Source;

/// How an import is written down: the transport by which containers-policy.json(5) knows it.
const TARBALL: &str = "tarball:";

/// Where an image came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A registry, or an archive, a layout or a directory by its full path.
    Source(Source),
    /// A tar of a root file system that was made an image.
    Tarball,
    /// Nobody wrote it down: a crash came in between.
    Unknown(Digest),
}

impl Origin {
    /// The origin that `source` is, from wherever one looks.
    #[must_use]
    pub fn of(source: &Source) -> Self {
        let mut source = source.clone();
        match &mut source {
            Source::DockerArchive { path, .. }
            | Source::Oci { path, .. }
            | Source::OciArchive { path, .. }
            | Source::Directory(path) => *path = absolute(path),
            Source::Registry(_)
            | Source::DockerDaemon(_)
            | Source::ContainersStorage(_)
            | Source::Stdin => {}
        }
        Self::Source(source)
    }

    /// Reads what was written down. None where it is not in its form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            TARBALL => Some(Self::Tarball),
            text => Source::parse(OsStr::new(text)).ok().map(Self::Source),
        }
    }

    /// The policy's transport and the scopes in it.
    pub(super) fn scopes(&self) -> (&'static str, Vec<String>) {
        match self {
            Self::Source(source) => scope::of_source(source),
            Self::Tarball => ("tarball", Vec::new()),
            // No policy has this transport: what it says of everything else applies.
            Self::Unknown(_) => ("", Vec::new()),
        }
    }
}

fn absolute(path: &Path) -> std::path::PathBuf {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(f),
            Self::Tarball => f.write_str(TARBALL),
            Self::Unknown(image) => image.fmt(f),
        }
    }
}

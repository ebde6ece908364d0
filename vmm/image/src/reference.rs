//! What a user types to name an image, and what it means. Two types: [`Source`] is a transport and a
//! place, [`Reference`] is a name in a registry as docker normalises it. Knows no file and no network.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::digest::{Digest, DigestError};

mod grammar;
#[cfg(test)]
mod tests;

/// The registry meant when a name gives none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag meant when a reference gives neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// The name space of docker hub's own images.
const OFFICIAL: &str = "library/";
/// Longest `domain/path` (docker's limit), in bytes.
const NAME_MAX: usize = 255;
/// Longest text looked at: a name, a tag and a digest fit in with room to spare.
const TEXT_MAX: usize = 1024;

/// Where an image comes from or goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `NAME` or `docker://NAME`: a repository in a registry.
    Registry(Reference),
    /// `docker-archive:FILE[:NAME]`: what `docker save` and `podman save` write.
    DockerArchive {
        /// The tar file.
        path: PathBuf,
        /// Which of several images in the file.
        name: Option<String>,
    },
    /// `oci:DIR[:TAG]`: an image layout directory (image-spec 1.1, image-layout.md).
    Oci {
        /// The directory that holds `oci-layout`.
        path: PathBuf,
        /// The annotation `org.opencontainers.image.ref.name` to look for.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: a tar of an image layout.
    OciArchive {
        /// The tar file.
        path: PathBuf,
        /// The annotation `org.opencontainers.image.ref.name` to look for.
        tag: Option<String>,
    },
    /// `dir:DIR` or `rootfs:DIR`: a plain directory that becomes the root.
    Directory(PathBuf),
    /// `docker-daemon:NAME`: what the local docker can export.
    DockerDaemon(Reference),
    /// `containers-storage:NAME`: what the local podman can export.
    ContainersStorage(Reference),
    /// `-`: an archive on standard input.
    Stdin,
}

/// A name in a registry: `domain/path[:tag][@digest]`, complete and normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// Nothing was given, or nothing after a transport.
    #[error("No image is named in {0:?}")]
    Empty(String),
    /// Longer than any valid reference.
    #[error("The image name is {0} bytes long, at most {limit} are allowed", limit = TEXT_MAX)]
    Long(usize),
    /// Bytes that are not UTF-8 outside of a path.
    #[error("The image name {0:?} is not UTF-8")]
    Encoding(OsString),
    /// A `word://` that is not `docker://`.
    #[error("Transport {0:?} is unknown, the transports are {transports}", transports = TRANSPORTS.join(" "))]
    Transport(String),
    /// A path where a name was expected.
    #[error(
        "{0:?} is a path, not an image name: write docker-archive:, oci:, oci-archive: or rootfs: before it"
    )]
    Path(String),
    /// Upper-case letters in the repository.
    #[error("The repository {0:?} has upper-case letters, names are lower-case")]
    Case(String),
    /// A registry that is neither a host name nor an address, with an optional port.
    #[error("The registry {0:?} is no host name with an optional port")]
    Domain(String),
    /// A repository outside of docker's grammar.
    #[error(
        "The repository {0:?} is not made of lower-case letters and digits, separated by '/', '.', '_', '__' or '-'"
    )]
    Repository(String),
    /// `domain/path` is longer than docker allows.
    #[error("The repository name is {0} bytes long, at most {limit} are allowed", limit = NAME_MAX)]
    Name(usize),
    /// A tag outside of the grammar.
    #[error(
        "The tag {0:?} is not 1 to 128 letters, digits, '_', '.' or '-', beginning with none of the last two"
    )]
    Tag(String),
    /// 64 hexadecimal digits alone: an image id, which no registry knows.
    #[error("{0} is an image id, not a name: write NAME@sha256:{0} for an image in a registry")]
    Identifier(String),
    /// What follows `@` is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// Every transport as it is written, for error texts and completion.
pub const TRANSPORTS: [&str; 8] = [
    "docker://",
    "docker-archive:",
    "oci:",
    "oci-archive:",
    "dir:",
    "rootfs:",
    "docker-daemon:",
    "containers-storage:",
];

impl Source {
    /// Reads what a user typed.
    ///
    /// A transport wins over a name: the repository `oci` on docker hub with the tag `x` is `docker://oci:x`.
    /// In paths with a name or tag after them the first colon separates the two, as skopeo has it.
    ///
    /// # Errors
    /// When the text is neither a transport with a place nor a reference.
    pub fn parse(text: &OsStr) -> Result<Self, ReferenceError> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stdin);
        }
        if let Some(rest) = bytes.strip_prefix(b"docker://") {
            return Ok(Self::Registry(utf8(rest)?.parse()?));
        }
        if let Some(rest) = bytes.strip_prefix(b"docker-archive:") {
            let (path, name) = place(bytes, rest)?;
            return Ok(Self::DockerArchive { path, name });
        }
        if let Some(rest) = bytes.strip_prefix(b"oci:") {
            let (path, tag) = place(bytes, rest)?;
            return Ok(Self::Oci { path, tag });
        }
        if let Some(rest) = bytes.strip_prefix(b"oci-archive:") {
            let (path, tag) = place(bytes, rest)?;
            return Ok(Self::OciArchive { path, tag });
        }
        for prefix in [&b"dir:"[..], b"rootfs:"] {
            if let Some(rest) = bytes.strip_prefix(prefix) {
                return directory(bytes, rest).map(Self::Directory);
            }
        }
        if let Some(rest) = bytes.strip_prefix(b"docker-daemon:") {
            return Ok(Self::DockerDaemon(utf8(rest)?.parse()?));
        }
        if let Some(rest) = bytes.strip_prefix(b"containers-storage:") {
            return Ok(Self::ContainersStorage(utf8(rest)?.parse()?));
        }
        let name = utf8(bytes)?;
        if let Some((transport, _)) = name.split_once("://") {
            return Err(ReferenceError::Transport(format!("{transport}://")));
        }
        name.parse().map(Self::Registry)
    }
}

/// Splits `PATH[:NAME]`.
fn place(whole: &[u8], rest: &[u8]) -> Result<(PathBuf, Option<String>), ReferenceError> {
    let mut halves = rest.splitn(2, |&byte| byte == b':');
    let path = directory(whole, halves.next().unwrap_or_default())?;
    match halves.next() {
        None => Ok((path, None)),
        Some([]) => Err(empty(whole)),
        Some(name) => Ok((path, Some(utf8(name)?.to_owned()))),
    }
}

fn directory(whole: &[u8], path: &[u8]) -> Result<PathBuf, ReferenceError> {
    if path.is_empty() {
        return Err(empty(whole));
    }
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

fn empty(whole: &[u8]) -> ReferenceError {
    ReferenceError::Empty(String::from_utf8_lossy(whole).into_owned())
}

fn utf8(bytes: &[u8]) -> Result<&str, ReferenceError> {
    std::str::from_utf8(bytes)
        .map_err(|_| ReferenceError::Encoding(OsString::from_vec(bytes.to_vec())))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return fmt::Display::fmt(reference, f),
            Self::DockerDaemon(reference) => return write!(f, "docker-daemon:{reference}"),
            Self::ContainersStorage(reference) => {
                return write!(f, "containers-storage:{reference}");
            }
            Self::Stdin => return f.write_str("-"),
            Self::Directory(path) => ("rootfs:", path, None),
            Self::DockerArchive { path, name } => ("docker-archive:", path, name.as_ref()),
            Self::Oci { path, tag } => ("oci:", path, tag.as_ref()),
            Self::OciArchive { path, tag } => ("oci-archive:", path, tag.as_ref()),
        };
        write!(f, "{transport}{}", path.display())?;
        name.map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

impl Reference {
    /// The registry, such as `docker.io` or `localhost:5000`, in lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, such as `library/alpine`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag. Absent only when there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the content, if one was given. It wins over the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`, without tag and digest.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same repository with another tag and without a digest.
    ///
    /// # Errors
    /// When `tag` is outside of the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !grammar::is_tag(tag) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository, pinned to `digest`, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// As docker prints it: without `docker.io/` and `library/` where they are implied.
    #[must_use]
    pub fn familiar(&self) -> String {
        let mut short = self.clone();
        if self.domain == DEFAULT_DOMAIN {
            let path = match self.path.strip_prefix(OFFICIAL) {
                Some(name) if !name.contains('/') => name,
                _ => &self.path,
            };
            // A path such as `a.b/c` would read as a registry: it keeps its domain.
            if !path
                .split_once('/')
                .is_some_and(|(first, _)| grammar::looks_like_domain(first))
            {
                short.domain.clear();
                short.path = path.to_owned();
            }
        }
        short.to_string()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > TEXT_MAX {
            return Err(ReferenceError::Long(text.len()));
        }
        if text.is_empty() {
            return Err(ReferenceError::Empty(text.to_owned()));
        }
        if text.starts_with(['/', '.', '~']) {
            return Err(ReferenceError::Path(text.to_owned()));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let (domain, rest) = match name.split_once('/') {
            Some((first, rest)) if grammar::looks_like_domain(first) => (first, rest),
            _ => (DEFAULT_DOMAIN, name),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !grammar::is_tag(tag)
        {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        if !grammar::is_domain(domain) {
            return Err(ReferenceError::Domain(domain.to_owned()));
        }
        let mut domain = domain.to_ascii_lowercase();
        if domain == "index.docker.io" {
            DEFAULT_DOMAIN.clone_into(&mut domain);
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::Case(path.to_owned()));
        }
        if !grammar::is_path(path) {
            return Err(ReferenceError::Repository(path.to_owned()));
        }
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        let length = domain.len() + 1 + path.len();
        if length > NAME_MAX {
            return Err(ReferenceError::Name(length));
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            domain,
            path,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.domain.is_empty() {
            write!(f, "{}/", self.domain)?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

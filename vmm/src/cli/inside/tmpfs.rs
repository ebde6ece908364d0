//! `--tmpfs DIR[:OPTIONS]` and `--mount`. Mounts nothing.

use std::str::FromStr;

use protocol::MountFlags;

use super::Size;
use super::volume::{Source, Volume, VolumeError, source_of};

/// Docker's, for what nobody says otherwise.
const CAREFUL: MountFlags = MountFlags {
    read_only: false,
    no_exec: true,
    no_dev: true,
    no_suid: true,
};
/// Options with a value that go to the file system itself.
const WITH_VALUE: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tmpfs(pub(crate) protocol::Tmpfs);

/// A mount of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// A file system in memory.
    Tmpfs(Tmpfs),
    /// Something of the host.
    Volume(Volume),
}

/// What cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TmpfsError {
    #[error("{0:?} is not an absolute path")]
    Relative(String),
    #[error("nothing can be mounted over the root, or in /proc and /sys")]
    Forbidden,
    #[error(
        "no option {0:?}: there are size, mode, uid, gid, nr_inodes, nr_blocks (each with a value), ro, rw, exec, noexec, suid, nosuid, dev and nodev"
    )]
    Option(String),
    #[error("{0}= needs a {1}")]
    Value(&'static str, &'static str),
    #[error("no type {0:?}: there are bind, volume and tmpfs")]
    Kind(String),
    #[error(
        "no key {0:?} with this type: there are source, target and readonly; with type=volume volume-nocopy, with type=tmpfs tmpfs-size and tmpfs-mode"
    )]
    Key(String),
    #[error("type=bind needs source=, a path that begins with / or .")]
    NoPath,
    #[error(transparent)]
    Name(#[from] Box<VolumeError>),
    #[error("target=DIR is missing")]
    NoTarget,
    #[error("a tmpfs has no source")]
    Source,
}

impl FromStr for Tmpfs {
    type Err = TmpfsError;

    fn from_str(text: &str) -> Result<Self, TmpfsError> {
        let (path, typed) = text.split_once(':').unwrap_or((text, ""));
        let mut flags = CAREFUL;
        let mut options = Vec::new();
        for option in typed.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => flags.read_only = true,
                "rw" => flags.read_only = false,
                "exec" | "noexec" => flags.no_exec = option == "noexec",
                "suid" | "nosuid" => flags.no_suid = option == "nosuid",
                "dev" | "nodev" => flags.no_dev = option == "nodev",
                _ => match option.split_once('=') {
                    Some((name, value)) if WITH_VALUE.contains(&name) && !value.is_empty() => {
                        options.push(option);
                    }
                    _ => return Err(TmpfsError::Option(option.to_owned())),
                },
            }
        }
        Ok(Self(protocol::Tmpfs {
            path: clean(path)?.into(),
            options: options.join(",").as_str().into(),
            flags,
        }))
    }
}

impl FromStr for Mount {
    type Err = TmpfsError;

    fn from_str(text: &str) -> Result<Self, TmpfsError> {
        let (mut kind, mut target, mut source, mut flags) = ("volume", None, None, CAREFUL);
        let mut options = Vec::new();
        // The kinds' own keys.
        let (mut of_tmpfs, mut of_volumes, mut fill) = (None, None, true);
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "type" => kind = value,
                "target" | "dst" | "destination" => target = Some(value),
                "source" | "src" => source = Some(value),
                "readonly" | "ro" => flags.read_only = truth(field, value)?,
                "tmpfs-size" => {
                    let Size(bytes) = value
                        .parse()
                        .map_err(|_| TmpfsError::Value("tmpfs-size", "size, such as 64m"))?;
                    options.push(format!("size={bytes}"));
                    of_tmpfs = Some(key);
                }
                "tmpfs-mode" => {
                    let mode = u32::from_str_radix(value, 8);
                    let mode = mode.ok().filter(|mode| *mode <= 0o7777);
                    let mode = mode.ok_or(TmpfsError::Value("tmpfs-mode", "mode, such as 1770"))?;
                    options.push(format!("mode={mode:o}"));
                    of_tmpfs = Some(key);
                }
                "volume-nocopy" => {
                    fill = !truth(field, value)?;
                    of_volumes = Some(key);
                }
                _ => return Err(TmpfsError::Key(key.to_owned())),
            }
        }
        let strange = match kind {
            "tmpfs" => of_volumes,
            "volume" => of_tmpfs,
            "bind" => of_tmpfs.or(of_volumes),
            other => return Err(TmpfsError::Kind(other.to_owned())),
        };
        if let Some(key) = strange {
            return Err(TmpfsError::Key(key.to_owned()));
        }
        let target = clean(target.ok_or(TmpfsError::NoTarget)?)?;
        let source = source.filter(|source| !source.is_empty());
        let found = source.map(source_of).transpose().map_err(Box::new)?;
        let source = match (kind, found) {
            ("tmpfs", None) => {
                return Ok(Self::Tmpfs(Tmpfs(protocol::Tmpfs {
                    path: target.into(),
                    options: options.join(",").as_str().into(),
                    flags,
                })));
            }
            ("tmpfs", Some(_)) => return Err(TmpfsError::Source),
            ("bind", Some(Source::Path(path))) => Source::Path(path),
            ("bind", _) => return Err(TmpfsError::NoPath),
            (_, Some(Source::Path(path))) => {
                let text = path.to_string_lossy().into_owned();
                return Err(Box::new(VolumeError::Name(text)).into());
            }
            (_, found) => found.unwrap_or(Source::Nameless),
        };
        Ok(Self::Volume(Volume {
            fill: fill && kind == "volume",
            source,
            target,
            read_only: flags.read_only,
            make: false,
        }))
    }
}

fn truth(field: &str, value: &str) -> Result<bool, TmpfsError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        "" if !field.contains('=') => Ok(true),
        _ => Err(TmpfsError::Value("readonly", "true or false")),
    }
}

/// An absolute path without `.`, `..` and doubled slashes, where something may be mounted.
pub(super) fn clean(path: &str) -> Result<String, TmpfsError> {
    if !path.starts_with('/') {
        return Err(TmpfsError::Relative(path.to_owned()));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    match parts.first() {
        None | Some(&("proc" | "sys")) => Err(TmpfsError::Forbidden),
        Some(_) => Ok(format!("/{}", parts.join("/"))),
    }
}

//! `--tmpfs DIR[:OPTIONS]` and `--mount type=tmpfs,…`. Mounts nothing.

use std::str::FromStr;

use protocol::MountFlags;

use super::Size;

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

/// A mount, of which there is one kind yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount(pub(crate) Tmpfs);

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
    #[error("volumes and directories of the host cannot be mounted yet; only type=tmpfs can be")]
    Kind,
    #[error("no type {0:?}: only type=tmpfs can be mounted yet")]
    UnknownKind(String),
    #[error("no key {0:?}: with type=tmpfs there are target, tmpfs-size, tmpfs-mode and readonly")]
    Key(String),
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
        let (mut kind, mut target, mut flags) = ("volume", None, CAREFUL);
        let mut options = Vec::new();
        let mut unknown = None;
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "type" => kind = value,
                "target" | "dst" | "destination" => target = Some(value),
                "readonly" | "ro" => flags.read_only = truth(field, value)?,
                "tmpfs-size" => {
                    let Size(bytes) = value
                        .parse()
                        .map_err(|_| TmpfsError::Value("tmpfs-size", "size, such as 64m"))?;
                    options.push(format!("size={bytes}"));
                }
                "tmpfs-mode" => {
                    let mode = u32::from_str_radix(value, 8);
                    let mode = mode.ok().filter(|mode| *mode <= 0o7777);
                    let mode = mode.ok_or(TmpfsError::Value("tmpfs-mode", "mode, such as 1770"))?;
                    options.push(format!("mode={mode:o}"));
                }
                "source" | "src" => unknown = Some(TmpfsError::Source),
                _ => unknown = Some(TmpfsError::Key(key.to_owned())),
            }
        }
        match kind {
            "tmpfs" => {}
            // Their own keys are not what is wrong with them.
            "bind" | "volume" => return Err(TmpfsError::Kind),
            other => return Err(TmpfsError::UnknownKind(other.to_owned())),
        }
        if let Some(error) = unknown {
            return Err(error);
        }
        Ok(Self(Tmpfs(protocol::Tmpfs {
            path: clean(target.ok_or(TmpfsError::NoTarget)?)?.into(),
            options: options.join(",").as_str().into(),
            flags,
        })))
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
fn clean(path: &str) -> Result<String, TmpfsError> {
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

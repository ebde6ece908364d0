//! Volumes: directories that containers keep data in, each with a name, and directories and files of the host. Refuses to know
//! machines.
//!
//! `volumes/NAME/_data` beside the image store is a volume's content, `volumes/NAME/volume.json` what is said of it. Whoever makes
//! or removes one, or makes a container that uses one, holds `volumes/lock`; a volume is in use by every container that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::{Deserialize, Serialize};

use crate::cli::{self, Source};
use crate::container::{ContainerError, Containers, Volume, new_id};
use crate::human;
use crate::jail::Share;
use crate::kept::{FileError, Kept};

const DATA: &str = "_data";
const ABOUT: &str = "volume.json";

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("There is no volume {0:?}")]
    Unknown(String),
    #[error(
        "{0:?} is not a name of a volume: letters, digits, and then also `_`, `.` and `-`, two at least"
    )]
    Name(String),
    #[error("Volume {name} is in use by container {container}")]
    InUse { name: String, container: String },
    #[error("There is no {} on this host", .0.display())]
    Missing(PathBuf),
    #[error("{} is neither a directory nor a file", .0.display())]
    Kind(PathBuf),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// What is said of a volume.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct About {
    /// Nanoseconds since 1970.
    pub(crate) created: u64,
    /// What its users call it by.
    pub(crate) labels: BTreeMap<String, String>,
    /// It was made for one container and goes with it.
    pub(crate) anonymous: bool,
}

/// A volume that is there.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) about: About,
}

/// All volumes of a user.
#[derive(Debug)]
pub(crate) struct Volumes(Kept);

impl Volumes {
    /// Those beside the image store at `root`.
    pub(crate) fn open(root: &Path) -> Result<Self, VolumeError> {
        Ok(Self(Kept::open(root, "volumes", 0o711, ABOUT)?))
    }

    /// Keeps volumes from being removed until it is dropped.
    pub(crate) fn hold(&self) -> Result<File, VolumeError> {
        Ok(self.0.hold()?)
    }

    /// Makes what is missing of `wanted`, and says where it is. The lock is held.
    pub(crate) fn find(&self, wanted: &cli::Volume) -> Result<Volume, VolumeError> {
        let (name, path) = match &wanted.source {
            Source::Name(name) => {
                let volume = self.create(name, BTreeMap::new(), false)?;
                (Some(volume.name), volume.path)
            }
            Source::Nameless => {
                let volume = self.create(&new_id()?, BTreeMap::new(), true)?;
                (Some(volume.name), volume.path)
            }
            Source::Path(path) => (None, of_host(path, wanted.make)?),
        };
        Ok(Volume {
            name,
            path,
            target: wanted.target.clone(),
            read_only: wanted.read_only,
        })
    }

    /// Makes a volume, or finds the one of this name. The lock is held.
    pub(crate) fn create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<Named, VolumeError> {
        if !cli::is_name(name) {
            return Err(VolumeError::Name(name.to_owned()));
        }
        match self.get(name) {
            Err(VolumeError::Unknown(_)) => {}
            found => return found,
        }
        let about = About {
            created: human::nanoseconds(),
            labels,
            anonymous,
        };
        self.0.make(name, &about, Some(DATA))?;
        Ok(self.named(name, about))
    }

    fn named(&self, name: &str, about: About) -> Named {
        Named {
            name: name.to_owned(),
            path: self.0.directory(name).join(DATA),
            about,
        }
    }

    /// The volume of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Named, VolumeError> {
        let about = self.0.about(name)?;
        let about = about.ok_or_else(|| VolumeError::Unknown(name.to_owned()))?;
        Ok(self.named(name, about))
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Result<Vec<Named>, VolumeError> {
        let all = self.0.all()?.into_iter();
        Ok(all.map(|(name, about)| self.named(&name, about)).collect())
    }

    /// Removes a volume that no container has.
    pub(crate) fn remove(&self, name: &str, containers: &Containers) -> Result<(), VolumeError> {
        let _lock = self.hold()?;
        self.get(name)?;
        let users = containers.list()?;
        let uses = |volumes: &[Volume]| volumes.iter().any(|one| one.name.as_deref() == Some(name));
        if let Some(user) = users.iter().find(|user| uses(&user.config.volumes)) {
            return Err(VolumeError::InUse {
                name: name.to_owned(),
                container: user.config.name.clone(),
            });
        }
        Ok(self.0.remove(name)?)
    }

    /// Whether this is one that was made for one container, and goes with it.
    pub(crate) fn is_anonymous(&self, volume: &Volume) -> bool {
        let name = volume.name.as_deref();
        name.is_some_and(|name| self.get(name).is_ok_and(|found| found.about.anonymous))
    }

    /// The names of those that containers have.
    pub(crate) fn used(containers: &Containers) -> Result<BTreeSet<String>, VolumeError> {
        let all = containers.list()?.into_iter();
        let volumes = all.flat_map(|container| container.config.volumes);
        Ok(volumes.filter_map(|volume| volume.name).collect())
    }
}

/// Where a path leads, or would lead if what is missing of it were there.
pub(crate) fn resolved(path: &Path) -> Result<PathBuf, FileError> {
    let error = |error| FileError::new("Finding", path, error);
    let mut there = std::path::absolute(path).map_err(error)?;
    let mut missing = Vec::new();
    loop {
        match there.canonicalize() {
            Ok(found) => {
                return Ok(missing
                    .iter()
                    .rev()
                    .fold(found, |path, name| path.join(name)));
            }
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(error(cause)),
            Err(cause) => match (there.file_name(), there.parent()) {
                // `..` would mean something else once it is there, and a link that leads nowhere too.
                (Some(name), Some(parent)) if there.symlink_metadata().is_err() => {
                    missing.push(name.to_owned());
                    there = parent.to_owned();
                }
                _ => return Err(error(cause)),
            },
        }
    }
}

/// A directory or file of the host, made if it is to be, by the path that was judged.
fn of_host(path: &Path, make: bool) -> Result<PathBuf, VolumeError> {
    let path = resolved(path)?;
    match path.try_exists() {
        Ok(false) if make => {
            let made = DirBuilder::new().recursive(true).create(&path);
            made.map_err(|error| FileError::new("Making", &path, error))?;
        }
        Ok(false) => return Err(VolumeError::Missing(path)),
        Ok(true) => {}
        Err(error) => return Err(FileError::new("Finding", &path, error).into()),
    }
    Ok(path)
}

/// Removes those volumes of a container that is gone which nobody named. What cannot be removed stays for `hull volume prune`.
pub(crate) fn remove_anonymous(volumes: &[Volume]) {
    for volume in volumes {
        let Some(name) = volume.name.as_deref() else {
            continue;
        };
        // ROOT/volumes/NAME/_data
        let Some(root) = volume.path.ancestors().nth(3) else {
            continue;
        };
        let (Ok(all), Ok(containers)) = (Volumes::open(root), Containers::open(root)) else {
            continue;
        };
        if all.is_anonymous(volume) {
            let _ = all.remove(name, &containers);
        }
    }
}

/// Opens what a container sees of the host, for its machine.
pub(crate) fn share(volume: &Volume) -> Result<Share, VolumeError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let straight = ResolveFlags::NO_SYMLINKS;
    let opened = openat2(
        rustix::fs::CWD,
        &volume.path,
        flags,
        Mode::empty(),
        straight,
    );
    let root: OwnedFd = match opened {
        Err(rustix::io::Errno::NOENT) => return Err(VolumeError::Missing(volume.path.clone())),
        opened => opened.map_err(|error| FileError::new("Opening", &volume.path, error))?,
    };
    let status = fstat(&root).map_err(|error| FileError::new("Opening", &volume.path, error))?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory | FileType::RegularFile => Ok(Share {
            root,
            read_only: volume.read_only,
        }),
        _ => Err(VolumeError::Kind(volume.path.clone())),
    }
}

#[cfg(test)]
mod tests;

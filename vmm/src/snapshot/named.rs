//! Snapshots: containers as they were at one moment, a directory each beside the image store, called as their user wants. Each has
//! a third file, `container`: the container's configuration and task in the frame of the two. Refuses to know how a machine is
//! made of it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::draft::{self, DRAFTS, Draft};
use super::sums::{self, Sums};
use super::{CONTAINER, DISK, FormatError, MACHINE, MEMORY, Parts};
use crate::agent::Task;
use crate::container::{Config, storage};
use crate::vmm::Rest;
use crate::{cli, human};

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("There is no snapshot {0:?}")]
    Unknown(String),
    #[error("There is a snapshot {0:?} already, or somebody is making it")]
    Taken(String),
    #[error("{0:?} is not a name: letters, digits, and then also `_`, `.` and `-`, two at least")]
    Name(String),
    #[error("Snapshot {name} cannot be used")]
    Format { name: String, source: FormatError },
    #[error("Snapshot {name} is damaged: its {what} does not fit the rest")]
    Unfit { name: String, what: &'static str },
    #[error(
        "Snapshot {name} has a guest that speaks version {found} of the agent protocol; this hull speaks version {}",
        protocol::VERSION
    )]
    Protocol { name: String, found: u16 },
    #[error("Snapshot {name} is damaged: the sum of its {what} is wrong")]
    Sum { name: String, what: &'static str },
    #[error("{action} snapshot {name} failed")]
    File {
        action: &'static str,
        name: String,
        source: io::Error,
    },
}

/// What a snapshot says of itself, beside its task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    /// The hull that made it.
    pub(crate) hull: String,
    /// The version of the agent protocol that its guest speaks.
    pub(crate) protocol: u16,
    /// When it was made, nanoseconds since 1970.
    pub(crate) created: u64,
    /// What the image's file system held, of which its guest remembers parts ([`image::Store::content`]).
    pub(crate) root: String,
    /// The container.
    pub(crate) config: Config,
    /// Of the other files; none as long as they are written.
    pub(crate) sums: Option<Sums>,
}

/// A snapshot that is there.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) about: About,
    pub(crate) task: Task,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
    directory: OwnedFd,
}

/// The snapshots beside one image store.
#[derive(Debug)]
pub(crate) struct Snapshots {
    path: PathBuf,
}

impl Snapshots {
    /// Those of the store at `root`. There may be none, and no directory.
    pub(crate) fn of(root: &Path) -> Self {
        let path = root.join("snapshots");
        // Nobody else would ever look for them.
        draft::remove_dead(&path);
        Self { path }
    }

    /// A place to make one of this container, which says already what it is of.
    pub(crate) fn begin(
        &self,
        name: &str,
        config: &Config,
        task: &Task,
        root: String,
    ) -> Result<Draft, SnapshotError> {
        let about = About {
            hull: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: protocol::VERSION,
            created: human::nanoseconds(),
            root,
            config: config.clone(),
            sums: None,
        };
        let draft = self.draft(name)?;
        write_container(name, &draft, &about, task)?;
        Ok(draft)
    }

    /// A place to make one, empty.
    pub(super) fn draft(&self, name: &str) -> Result<Draft, SnapshotError> {
        check(name)?;
        let draft = Draft::begin(&self.path, name).map_err(|error| making(name, error))?;
        draft.ok_or_else(|| SnapshotError::Taken(name.to_owned()))
    }

    /// All of them by name; of those that cannot be used, why.
    pub(crate) fn list(&self) -> Vec<Result<Snapshot, SnapshotError>> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten();
        let names = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            (name != DRAFTS).then_some(name)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        let found = names.iter().map(|name| self.get(name));
        // What is being removed just now is none.
        found
            .filter(|found| !matches!(found, Err(SnapshotError::Unknown(_))))
            .collect()
    }

    /// The one of this name. Nothing in it is trusted.
    pub(crate) fn get(&self, name: &str) -> Result<Snapshot, SnapshotError> {
        check(name).map_err(|_| SnapshotError::Unknown(name.to_owned()))?;
        let directory = draft::open_directory(&self.path.join(name));
        let directory = directory.map_err(|source| opening(name, source))?;
        Snapshot::read(name, directory)
    }

    /// Removes the one of this name, whatever is in it. Machines made of it go on.
    pub(crate) fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let unknown = || SnapshotError::Unknown(name.to_owned());
        check(name).map_err(|_| unknown())?;
        let path = self.path.join(name);
        if std::fs::symlink_metadata(&path).is_err() {
            return Err(unknown());
        }
        draft::remove_files(&path).map_err(|source| SnapshotError::File {
            action: "Removing",
            name: name.to_owned(),
            source,
        })
    }
}

/// What of a container cannot go on twice, and what to do instead.
pub(crate) fn refusal(config: &Config) -> Option<(&'static str, &'static str)> {
    if config.tty {
        Some(("a terminal", "Run it without -t."))
    } else if config.network.is_some() {
        // Its kernel knows the address by which the others know it.
        Some((
            "an address in a network of one's own",
            "Run it on the default network.",
        ))
    } else if config.uplink.is_some() {
        Some((
            "a network card that leads to a device of the host's",
            "Run it on the default network.",
        ))
    } else if config.rootfs.is_some() {
        Some((
            "a root that is a directory of the host",
            "Run it without --rootfs.",
        ))
    } else if config.machine.kernel_log {
        Some(("--kernel-log", "Run it without."))
    } else {
        None
    }
}

/// Notes the sums of all that was written into a draft, and makes it durable and visible.
pub(crate) fn finish(name: &str, draft: Draft) -> Result<(), SnapshotError> {
    let directory = draft.directory().try_clone_to_owned();
    let found = Snapshot::read(name, directory.map_err(|error| making(name, error))?)?;
    let about = About {
        sums: Some(found.sums()?),
        ..found.about
    };
    write_container(name, &draft, &about, &found.task)?;
    draft.finish().map_err(|error| making(name, error))
}

/// Writes which container it is of.
pub(super) fn write_container(
    name: &str,
    draft: &Draft,
    about: &About,
    task: &Task,
) -> Result<(), SnapshotError> {
    let about = serde_json::to_vec(about).map_err(|error| making(name, error.into()))?;
    let state = postcard::to_allocvec(task);
    let state = state.map_err(|error| making(name, io::Error::other(error)))?;
    let bytes = super::encode(&Parts {
        about: &about,
        pages: &[],
        state: &state,
    });
    let written = draft.write_container(&bytes);
    written.map_err(|error| making(name, error))
}

/// Which container it is of. Nothing in it is trusted.
pub(super) fn read_container(name: &str, bytes: &[u8]) -> Result<(About, Task), SnapshotError> {
    let parts = super::decode(bytes).map_err(|source| SnapshotError::Format {
        name: name.to_owned(),
        source,
    })?;
    let unfit = |what| SnapshotError::Unfit {
        name: name.to_owned(),
        what,
    };
    let about: About = serde_json::from_slice(parts.about).map_err(|_| unfit("configuration"))?;
    if about.protocol != protocol::VERSION {
        return Err(SnapshotError::Protocol {
            name: name.to_owned(),
            found: about.protocol,
        });
    }
    let task = postcard::from_bytes(parts.state).map_err(|_| unfit("task"))?;
    Ok((about, task))
}

impl Snapshot {
    /// The one in this directory, whether it is done or still a draft. Nothing in it is trusted.
    pub(crate) fn read(name: &str, directory: OwnedFd) -> Result<Self, SnapshotError> {
        let failed = |source: io::Error| opening(name, source);
        let size = |file: &str| -> io::Result<u64> {
            let opened = File::from(open(&directory, file)?);
            Ok(512 * opened.metadata()?.blocks())
        };
        let sizes = size(MACHINE).and_then(|bytes| Ok(bytes + size(MEMORY)? + size(CONTAINER)?));
        let bytes = sizes.map_err(failed)? + size(DISK).unwrap_or(0);
        let file = open(&directory, CONTAINER).map_err(|error| failed(error.into()))?;
        let format = |source: FormatError| SnapshotError::Format {
            name: name.to_owned(),
            source,
        };
        let text = super::read(&file.into()).map_err(format)?;
        let (about, task) = read_container(name, &text)?;
        Ok(Self {
            name: name.to_owned(),
            task,
            about,
            bytes,
            directory,
        })
    }

    /// Its files, and what each holds, in the order of an archive. Those that are there are its own: a link is none.
    pub(super) fn files(&self) -> Result<Vec<(&'static str, File)>, SnapshotError> {
        let failed = |error: Errno| opening(&self.name, error.into());
        let has_disk = self.about.config.storage > 0;
        let names = [CONTAINER, MACHINE, MEMORY, DISK];
        let names = names.into_iter().filter(|name| *name != DISK || has_disk);
        let open = |name| {
            Ok((
                name,
                File::from(open(&self.directory, name).map_err(failed)?),
            ))
        };
        names.map(open).collect()
    }

    /// Reads all of it, and compares it with the sums that were noted when it was made.
    pub(crate) fn verify(&self) -> Result<(), SnapshotError> {
        let found = self.sums()?;
        let wrong = match self.about.sums {
            None => Some(CONTAINER),
            Some(told) if told.machine != found.machine => Some(MACHINE),
            Some(told) if told.memory != found.memory => Some(MEMORY),
            Some(told) if told.disk != found.disk => Some(DISK),
            Some(_) => None,
        };
        let name = || self.name.clone();
        wrong.map_or(Ok(()), |what| {
            Err(SnapshotError::Sum { name: name(), what })
        })
    }

    /// The sums of its files, which fit each other as far as can be seen without a machine.
    fn sums(&self) -> Result<Sums, SnapshotError> {
        let Rest { machine, memory } = self.rest()?;
        let disk = self.disk()?;
        let sum = |file: File| {
            sums::of_file(&file).map_err(|source| SnapshotError::File {
                action: "Reading",
                name: self.name.clone(),
                source,
            })
        };
        Ok(Sums {
            machine: sum(machine.into())?,
            memory: sum(memory.into())?,
            disk: disk.map_or(Ok(0), sum)?,
        })
    }

    /// The files of its machine, looked at as far as that can be done without one.
    pub(crate) fn rest(&self) -> Result<Rest, SnapshotError> {
        let name = || self.name.clone();
        let failed = |error: Errno| opening(&self.name, error.into());
        let machine = open(&self.directory, MACHINE).map_err(failed)?;
        let memory = open(&self.directory, MEMORY).map_err(failed)?;
        let format = |source: FormatError| SnapshotError::Format {
            name: name(),
            source,
        };
        let copy = machine.try_clone().map_err(|error| format(error.into()))?;
        let bytes = super::read(&copy.into()).map_err(format)?;
        super::decode(&bytes).map_err(format)?;
        rustix::fs::seek(&machine, rustix::fs::SeekFrom::Start(0)).map_err(failed)?;
        let length = rustix::fs::fstat(&memory).map_err(failed)?.st_size;
        if u64::try_from(length) != Ok(self.about.config.machine.memory.bytes()) {
            return Err(SnapshotError::Unfit {
                name: name(),
                what: "memory",
            });
        }
        Ok(Rest { machine, memory })
    }

    /// Its disk, if it has one.
    pub(crate) fn disk(&self) -> Result<Option<File>, SnapshotError> {
        let most = self.about.config.storage;
        if most == 0 {
            return Ok(None);
        }
        let unfit = || SnapshotError::Unfit {
            name: self.name.clone(),
            what: "disk",
        };
        let disk = File::from(open(&self.directory, DISK).map_err(|_| unfit())?);
        match disk.metadata() {
            Ok(data) if data.is_file() && data.len() == storage::length(most) => Ok(Some(disk)),
            _ => Err(unfit()),
        }
    }
}

/// A file of it could not be opened; what is being removed just now is none.
fn opening(name: &str, source: io::Error) -> SnapshotError {
    let name = name.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => SnapshotError::Unknown(name),
        _ => SnapshotError::File {
            action: "Opening",
            name,
            source,
        },
    }
}

fn open(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn making(name: &str, source: io::Error) -> SnapshotError {
    SnapshotError::File {
        action: "Making",
        name: name.to_owned(),
        source,
    }
}

fn check(name: &str) -> Result<(), SnapshotError> {
    match cli::is_name(name) && name != DRAFTS {
        true => Ok(()),
        false => Err(SnapshotError::Name(name.to_owned())),
    }
}

#[cfg(test)]
pub(super) mod tests;

//! The containers of one user, a directory each: what was asked for, how it stands, what it printed, and the socket of
//! the process that supervises it. Refuses to know virtual machines.
//!
//! Who supervises a container holds its `lock`. A state that says `running` while nobody holds the lock is one that nobody
//! lived to correct: it reads as `exited`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod config;
pub(crate) mod events;
mod health;
mod home;
pub(crate) mod log;
mod names;
mod state;
pub(crate) mod storage;

pub(crate) use config::{Config, LogDriver, Restart, Volume, Way};
pub(crate) use health::{Check, Health, Verdict};
pub(crate) use home::{Containers, mac, new_id, short};
pub(crate) use state::{KILLED, State, Status};

use crate::agent::Task;
use crate::cli::Mac;
use crate::uplink::Place;

const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const TASK: &str = "task";
const LOCK: &str = "lock";
const PLACE: &str = "cni.json";
const NETWORK_LOG: &str = "network.log";
const NETWORK_COUNTS: &str = "network.counts";
/// No file of ours is longer.
const LONGEST_FILE: u64 = 16 << 20;

/// Why a container cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    #[error("{action} {} failed", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is damaged", .path.display())]
    Damaged {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("There is no container {0:?}")]
    Unknown(String),
    #[error("{0:?} is the beginning of several containers' ids")]
    Ambiguous(String),
    #[error("The name {name:?} is in use by container {id}")]
    NameTaken { name: String, id: String },
    #[error("{0:?} is not a name: letters, digits, and then also `_`, `.` and `-`, two at least")]
    Name(String),
    #[error("Container {0} runs already")]
    Running(String),
    #[error("The hardware address {mac} is in use by container {name}")]
    MacTaken { mac: Mac, name: String },
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    path: PathBuf,
    directory: OwnedFd,
    pub(crate) config: Config,
}

/// The right to supervise a container, until it is dropped in every process that has it.
#[derive(Debug)]
pub(crate) struct Supervision(#[expect(dead_code, reason = "being open is what it is for")] File);

impl Container {
    fn open(path: PathBuf) -> Result<Self, ContainerError> {
        let directory = open_directory(&path)?;
        let mut container = Self {
            path,
            directory,
            config: Config::default(),
        };
        let config: Option<Config> = container.read_json(CONFIG)?;
        let missing = || ContainerError::Damaged {
            path: container.path.join(CONFIG),
            source: "it is missing".into(),
        };
        let config = config.ok_or_else(missing)?;
        container.config = config;
        Ok(container)
    }

    /// All containers beside it, itself included.
    pub(crate) fn siblings(&self) -> Result<Vec<Self>, ContainerError> {
        let names = std::fs::read_dir(self.path.parent().unwrap_or(&self.path));
        let names = names.map_err(|error| self.failed("Listing", "..", error))?;
        let paths = names.filter_map(|entry| Some(entry.ok()?.path()));
        // What cannot be opened is none, or is just being removed.
        Ok(paths.filter_map(|path| Self::open(path).ok()).collect())
    }

    /// Its directory, open.
    pub(crate) fn directory(&self) -> std::os::fd::BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The store that it is beside.
    pub(crate) fn store(&self) -> &Path {
        self.path.ancestors().nth(2).unwrap_or(&self.path)
    }

    /// The file of its log; rotated away, the older part has `.1` after its name.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(log::NAME)
    }

    /// The files into which its network writes, empty.
    pub(crate) fn journal(&self) -> Result<network::Files, ContainerError> {
        let open = |name: &str, more| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | more;
            let file = self.file(name, flags);
            file.map_err(|error| self.failed("Opening", name, error.into()))
        };
        Ok(network::Files {
            log: open(NETWORK_LOG, OFlags::APPEND)?.into(),
            counts: open(NETWORK_COUNTS, OFlags::empty())?.into(),
        })
    }

    /// Where its network did not let it go, when it last ran: a line each, seconds since 1970 and the place.
    pub(crate) fn network_log(&self) -> Result<String, ContainerError> {
        let bytes = self.read(NETWORK_LOG)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How much has passed through its network since it was last started.
    pub(crate) fn network_counts(&self) -> network::Counts {
        let bytes = self.read(NETWORK_COUNTS).ok().flatten();
        bytes
            .and_then(|bytes| network::Counts::read(&bytes))
            .unwrap_or_default()
    }

    /// Its place in a CNI network, which is to be given up.
    pub(crate) fn place(&self) -> Result<Option<Place>, ContainerError> {
        self.read_json(PLACE)
    }

    /// Writes that down.
    pub(crate) fn set_place(&self, place: &Place) -> Result<(), ContainerError> {
        self.write_json(PLACE, place)
    }

    /// It was given up.
    pub(crate) fn forget_place(&self) {
        let _ = rustix::fs::unlinkat(&self.directory, PLACE, AtFlags::empty());
    }

    /// Makes the disk that keeps what it writes, if it is to have one: empty, or like this one.
    fn make_disk(&self, like: Option<&File>) -> Result<(), ContainerError> {
        if self.config.storage == 0 {
            return Ok(());
        }
        let failed = |error| self.failed("Making", storage::NAME, error);
        let mut uuid = [0; 16];
        home::random(&mut uuid)?;
        // Of version 4, which are random.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.file(storage::NAME, flags);
        let file = file.map_err(|error| failed(error.into()))?;
        if let Some(like) = like {
            return crate::sparse::copy(like, &file).map_err(failed);
        }
        let now = u32::try_from(crate::human::now()).unwrap_or(u32::MAX);
        storage::format(&file, self.config.storage, uuid, now).map_err(failed)
    }

    /// The disk that keeps what it writes, if it has one.
    pub(crate) fn disk(&self) -> Result<Option<File>, ContainerError> {
        match self.config.storage {
            0 => Ok(None),
            _ => match self.file(storage::NAME, OFlags::RDWR) {
                Ok(file) => Ok(Some(file)),
                Err(error) => Err(self.failed("Opening", storage::NAME, error.into())),
            },
        }
    }

    /// What its first process is and what it is furnished with.
    pub(crate) fn task(&self) -> Result<Task, ContainerError> {
        let bytes = self.read(TASK)?.unwrap_or_default();
        postcard::from_bytes(&bytes).map_err(|error| self.damaged(TASK, error))
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        let state = self.written_state();
        if !state.runs() || self.is_supervised() {
            return state;
        }
        // Its supervisor may have written down the end since, before it went.
        match self.written_state() {
            state if state.runs() => State {
                pid: 0,
                vmm: 0,
                status: Status::Exited,
                exit_code: KILLED,
                error: "its supervisor was killed, or the host restarted".to_owned(),
                ..state
            },
            state => state,
        }
    }

    fn written_state(&self) -> State {
        match self.read_json(STATE) {
            Ok(state) => state.unwrap_or_default(),
            Err(error) => State::lost(crate::failure::line(&error)),
        }
    }

    /// Writes down how it stands: all of it or nothing.
    pub(crate) fn set_state(&self, state: &State) -> Result<(), ContainerError> {
        match self.write_json(STATE, state) {
            // A full disk, which has room for what is in the place of as much.
            Err(ContainerError::File { .. }) => self.overwrite(STATE, state),
            written => written,
        }
    }

    /// Writes its configuration anew.
    pub(crate) fn set_config(&self) -> Result<(), ContainerError> {
        self.write_json(CONFIG, &self.config)
    }

    /// The same for one that others may remove meanwhile, which then stays removed: it loses its lock before its configuration.
    fn change_config(&self) -> Result<(), ContainerError> {
        let written = self.set_config();
        match self.lock_file(OFlags::empty()) {
            Ok(_) => written,
            Err(error) => {
                self.clear()?;
                Err(error)
            }
        }
    }

    /// Reads its configuration anew, which others may have changed.
    pub(crate) fn reload(&mut self) -> Result<(), ContainerError> {
        if let Some(config) = self.read_json(CONFIG)? {
            self.config = config;
        }
        Ok(())
    }

    /// Whether it has not been removed meanwhile.
    pub(crate) fn is_there(&self) -> bool {
        rustix::fs::fstat(&self.directory).is_ok_and(|data| data.st_nlink > 0)
    }

    /// Whether a process supervises it just now.
    pub(crate) fn is_supervised(&self) -> bool {
        match self.lock_file(OFlags::empty()) {
            Ok(file) => matches!(
                rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared),
                Err(Errno::WOULDBLOCK)
            ),
            Err(_) => false,
        }
    }

    /// Becomes its only supervisor.
    pub(crate) fn supervise(&self) -> Result<Supervision, ContainerError> {
        self.supervise_by(self.lock_file(OFlags::empty())?)
    }

    fn supervise_by(&self, file: File) -> Result<Supervision, ContainerError> {
        // Whoever looks whether there is a supervisor holds the lock for a moment too.
        for _ in 0..50 {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Supervision(file)),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_millis(2)),
                Err(error) => return Err(self.failed("Locking", LOCK, error.into())),
            }
        }
        Err(ContainerError::Running(self.config.name.clone()))
    }

    /// Waits until nobody supervises it any more, for so long at most.
    pub(crate) fn wait_for_supervisor(&self, limit: std::time::Duration) -> bool {
        let start = std::time::Instant::now();
        while self.is_supervised() {
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        true
    }

    /// Removes it, the caller being its supervisor. Follows no link, and leaves what it does not know.
    pub(crate) fn remove(&self, _supervision: &Supervision) -> Result<(), ContainerError> {
        self.clear()?;
        events::note(self, "destroy", None);
        Ok(())
    }

    fn clear(&self) -> Result<(), ContainerError> {
        // Without its configuration it is none any more, whatever happens after.
        let files = [
            CONFIG,
            crate::control::NAME,
            STATE,
            TASK,
            log::NAME,
            NETWORK_LOG,
            NETWORK_COUNTS,
            PLACE,
            storage::NAME,
        ];
        let rotated = log::older(Path::new(log::NAME), self.config.log_limits);
        let files = files.map(PathBuf::from).into_iter().chain(rotated);
        // Once more: one that somebody changes just now.
        for name in files.chain([LOCK, CONFIG].map(PathBuf::from)) {
            match rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    let name = name.to_string_lossy();
                    return Err(self.failed("Removing", &name, error.into()));
                }
            }
        }
        match rustix::fs::rmdir(&self.path) {
            // What somebody writes just now goes with them, or by whoever makes a container.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(self.failed("Removing", "", error.into())),
        }
    }

    /// It is made with the container, and not anew by whoever looks while another removes it.
    fn lock_file(&self, making: OFlags) -> Result<File, ContainerError> {
        self.file(LOCK, OFlags::RDWR | making)
            .map_err(|error| match error {
                // Removed since it was found.
                Errno::NOENT => ContainerError::Unknown(self.config.name.clone()),
                error => self.failed("Opening", LOCK, error.into()),
            })
    }

    fn file(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.directory, name, flags, mode)?.into())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ContainerError> {
        let mut bytes = Vec::new();
        let file = match self.file(name, OFlags::RDONLY) {
            Err(Errno::NOENT) => return Ok(None),
            file => file.map_err(|error| self.failed("Opening", name, error.into()))?,
        };
        file.take(LONGEST_FILE)
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed("Reading", name, error))?;
        Ok(Some(bytes))
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ContainerError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&bytes);
        value.map(Some).map_err(|error| self.damaged(name, error))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), ContainerError> {
        let text = serde_json::to_vec(value).map_err(|error| self.damaged(name, error))?;
        self.write(name, &text)
    }

    /// Writes into a file that is there and keeps its length, or as good as: nothing more of the disk is taken.
    fn overwrite(&self, name: &str, value: &impl Serialize) -> Result<(), ContainerError> {
        use std::os::unix::fs::FileExt;
        let text = serde_json::to_vec(value).map_err(|error| self.damaged(name, error))?;
        let file = self.file(name, OFlags::WRONLY).map_err(io::Error::from);
        let written = file.and_then(|file| {
            file.write_all_at(&text, 0)?;
            file.set_len(text.len() as u64)
        });
        written.map_err(|error| self.failed("Writing", name, error))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ContainerError> {
        let failed = |error: io::Error| self.failed("Writing", name, error);
        let temporary = format!("{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let written = self.file(&temporary, flags).map_err(io::Error::from);
        let written = written.and_then(|mut file| file.write_all(bytes));
        let done = written.and_then(|()| {
            Ok(rustix::fs::renameat(
                &self.directory,
                &*temporary,
                &self.directory,
                name,
            )?)
        });
        done.map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.directory, &*temporary, AtFlags::empty());
            failed(error)
        })
    }

    fn failed(&self, action: &'static str, name: &str, source: io::Error) -> ContainerError {
        let path = self.path.join(name);
        ContainerError::File {
            action,
            path,
            source,
        }
    }

    fn damaged(
        &self,
        name: &str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> ContainerError {
        let path = self.path.join(name);
        ContainerError::Damaged {
            path,
            source: source.into(),
        }
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, ContainerError> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ContainerError::File {
        action: "Opening",
        path: path.to_owned(),
        source: error.into(),
    })
}

#[cfg(test)]
pub(crate) mod tests;

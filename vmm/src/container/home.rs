//! The directory with all containers: making, finding, renaming. Who makes or renames holds its lock.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

use super::{Config, Container, ContainerError, Supervision, TASK, events, names};
use crate::agent::Task;
use crate::cli::Mac;
use crate::uplink::{self, Uplink};

/// Names are drawn so many times before a number is added.
const DRAWS: u32 = 8;

/// All containers of a user.
#[derive(Debug)]
pub(crate) struct Containers {
    path: PathBuf,
}

impl Containers {
    /// Those beside the image store at `root`.
    pub(crate) fn open(root: &Path) -> Result<Self, ContainerError> {
        let path = root.join("containers");
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("Making", &path, error))
            }
            _ => Ok(Self { path }),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a container, named and numbered, and becomes its supervisor.
    pub(crate) fn create(
        &self,
        config: Config,
        task: &Task,
    ) -> Result<(Container, Supervision), ContainerError> {
        self.create_with(config, task, None)
    }

    /// The same with a disk like this one.
    pub(crate) fn create_with(
        &self,
        mut config: Config,
        task: &Task,
        disk: Option<&File>,
    ) -> Result<(Container, Supervision), ContainerError> {
        if !config.name.is_empty() && !names::is_name(&config.name) {
            return Err(ContainerError::Name(config.name));
        }
        let _lock = self.lock()?;
        self.remove_halves();
        let others = self.list()?;
        let taken = |name: &str| others.iter().find(|other| other.config.name == name);
        if let Some(other) = taken(&config.name) {
            let id = short(&other.config.id).to_owned();
            let name = config.name;
            return Err(ContainerError::NameTaken { name, id });
        }
        if let Some(mac) = hardware(&config)
            && let Some(other) = others.iter().find(|o| hardware(&o.config) == Some(mac))
        {
            let name = other.config.name.clone();
            return Err(ContainerError::MacTaken { mac, name });
        }
        if config.name.is_empty() {
            config.name = free_name(|name| taken(name).is_some())?;
        }
        let path = self.path.join(&config.id);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed("Making", &path, error))?;
        let directory = super::open_directory(&path)?;
        let container = Container {
            path,
            directory,
            config,
        };
        let fill = || {
            let lock = container.lock_file(OFlags::CREATE)?;
            let supervision = container.supervise_by(lock)?;
            let task = postcard::to_allocvec(task);
            let task = task.map_err(|error| container.damaged(TASK, error))?;
            container.write(TASK, &task)?;
            container.make_disk(disk)?;
            // Last: with it, it is a container.
            container.set_config()?;
            Ok(supervision)
        };
        match fill() {
            Ok(supervision) => {
                events::note(&container, "create", None);
                Ok((container, supervision))
            }
            Err(error) => {
                let _ = std::fs::remove_dir_all(&container.path);
                Err(error)
            }
        }
    }

    /// Gives a container another name.
    pub(crate) fn rename(
        &self,
        container: &mut Container,
        name: &str,
    ) -> Result<(), ContainerError> {
        if !names::is_name(name) {
            return Err(ContainerError::Name(name.to_owned()));
        }
        let _lock = self.lock()?;
        let taken = self.list()?;
        if let Some(other) = taken.iter().find(|other| other.config.name == name) {
            let (name, id) = (name.to_owned(), short(&other.config.id).to_owned());
            return Err(ContainerError::NameTaken { name, id });
        }
        let before = std::mem::replace(&mut container.config.name, name.to_owned());
        container.change_config()?;
        events::note(container, "rename", Some(("oldName", before)));
        Ok(())
    }

    /// Writes another configuration down, the name as it is now.
    pub(crate) fn change(
        &self,
        container: &mut Container,
        config: Config,
        pids: Option<Option<u64>>,
    ) -> Result<(), ContainerError> {
        let _lock = self.lock()?;
        container.reload()?;
        if let Some(pids) = pids {
            let mut task = container.task()?;
            task.container.pids = pids;
            let task = postcard::to_allocvec(&task);
            let task = task.map_err(|error| container.damaged(TASK, error))?;
            container.write(TASK, &task)?;
        }
        let name = container.config.name.clone();
        container.config = Config { name, ..config };
        container.change_config()?;
        events::note(container, "update", None);
        Ok(())
    }

    /// All of them, the newest first. What is being made or removed just now is not among them.
    pub(crate) fn list(&self) -> Result<Vec<Container>, ContainerError> {
        let entries =
            std::fs::read_dir(&self.path).map_err(|e| failed("Reading", &self.path, e))?;
        let mut containers = Vec::new();
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match Container::open(entry.path()) {
                Ok(container) if container.is_over() => {}
                Ok(container) => containers.push(container),
                // A directory without a configuration is half a container, and nobody's any more.
                Err(_) => {}
            }
        }
        containers.sort_by_key(|container| std::cmp::Reverse(container.config.created));
        Ok(containers)
    }

    /// The container that `text` means: an id, a name, or the beginning of an id.
    pub(crate) fn find(&self, text: &str) -> Result<Container, ContainerError> {
        let unknown = || ContainerError::Unknown(text.to_owned());
        // A whole id is its directory's name: a hundred commands for a hundred containers need not read all of them each.
        if is_id(text)
            && let Ok(container) = Container::open(self.path.join(text))
            && !container.is_over()
        {
            return Ok(container);
        }
        let mut all = self.list()?;
        let exact = |c: &Container| c.config.id == text || c.config.name == text;
        if let Some(index) = all.iter().position(exact) {
            return Ok(all.swap_remove(index));
        }
        if text.is_empty() {
            return Err(unknown());
        }
        all.retain(|container| container.config.id.starts_with(text));
        match (all.pop(), all.pop()) {
            (Some(container), None) => Ok(container),
            (Some(_), Some(_)) => Err(ContainerError::Ambiguous(text.to_owned())),
            _ => Err(self.damaged(text).unwrap_or_else(unknown)),
        }
    }

    /// Why a container whose id begins so, with four digits at least, is none.
    fn damaged(&self, text: &str) -> Option<ContainerError> {
        let entries = std::fs::read_dir(&self.path).ok()?.flatten();
        let begins =
            |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(text));
        let mut entries = entries.filter(|entry| text.len() >= 4 && begins(&entry.file_name()));
        match Container::open(entries.next()?.path()) {
            Err(error @ ContainerError::Damaged { .. }) => Some(error),
            _ => None,
        }
    }

    /// Removes what is left of containers whose makers or removers have died; nobody makes one meanwhile. What cannot be removed
    /// is left for later.
    fn remove_halves(&self) {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let misses = |name: &&str| {
                let file = path.join(name).symlink_metadata();
                file.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            };
            if ![super::CONFIG, super::LOCK].iter().any(misses) {
                continue;
            }
            let Ok(files) = std::fs::read_dir(&path) else {
                continue;
            };
            let lock = File::open(path.join(super::LOCK));
            let flags = FlockOperation::NonBlockingLockExclusive;
            if lock
                .as_ref()
                .is_ok_and(|lock| rustix::fs::flock(lock, flags).is_err())
            {
                // Somebody is still at it.
                continue;
            }
            for file in files.flatten() {
                let _ = std::fs::remove_file(file.path());
            }
            let _ = std::fs::remove_dir(&path);
        }
    }

    fn lock(&self) -> Result<File, ContainerError> {
        let path = self.path.join("lock");
        crate::lock::wait(&path).map_err(|(action, error)| failed(action, &path, error))
    }
}

impl Container {
    /// Whether it was to be removed at its end, which nobody lived to do; then it is removed now. Its place in a CNI network is
    /// given up in any case.
    fn is_over(&self) -> bool {
        let has_place = || matches!(self.place(), Ok(Some(_)));
        let leaves = matches!(self.config.uplink, Some(Uplink::Cni { .. })) && has_place();
        if !(self.config.remove || leaves) || self.is_supervised() {
            return false;
        }
        let state = self.state();
        if state.status != super::Status::Exited {
            return false;
        }
        let Ok(supervision) = self.supervise() else {
            return false;
        };
        if leaves {
            uplink::detach(self, None);
        }
        self.config.remove && self.remove(&supervision).is_ok()
    }
}

/// The first twelve digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The hardware address of a container that was not given one: the first digits of its id, in the form of an address that no
/// manufacturer has given to anything.
pub(crate) fn mac(id: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (byte, place) in mac.iter_mut().zip((0..).step_by(2)) {
        let digits = id.get(place..place + 2).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    mac[0] = mac[0] & 0xfc | 2;
    mac
}

/// The hardware address of a container with a network card.
fn hardware(config: &Config) -> Option<Mac> {
    config.machine.network.as_ref().map(|card| Mac(card.mac))
}

/// Whether it looks like a whole id.
fn is_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(is_digit)
}

/// A new container's id: 64 hexadecimal digits.
pub(crate) fn new_id() -> Result<String, ContainerError> {
    use std::fmt::Write as _;
    let mut bytes = [0; 32];
    random(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

fn free_name(is_taken: impl Fn(&str) -> bool) -> Result<String, ContainerError> {
    let mut bytes = [0; 8];
    for draw in 0.. {
        random(&mut bytes)?;
        let number = u64::from_le_bytes(bytes);
        let mut name = names::name(number);
        if draw >= DRAWS {
            name.push_str(&(number >> 44).to_string());
        }
        if !is_taken(&name) {
            return Ok(name);
        }
    }
    unreachable!("the range has no end")
}

pub(super) fn random(bytes: &mut [u8]) -> Result<(), ContainerError> {
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut *bytes, flags) {
        Ok(_) => Ok(()),
        Err(error) => Err(failed("Reading", Path::new("random bytes"), error.into())),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ContainerError {
    let path = path.to_owned();
    ContainerError::File {
        action,
        path,
        source,
    }
}

//! A control group for each VMM, where the calling user was given groups of its own to make (cgroups(7), "Delegation"): the host's
//! kernel holds what the guest's size and the jail promise. Refuses to know what a VMM is.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Access, access};

/// Where control groups are found: version 2, with all controllers in one tree.
const MOUNT: &str = "/sys/fs/cgroup";
/// A group is called by the process that made it, which removes it, and a number. What a killed one left goes with the next.
const PREFIX: &str = "hull-";
/// What groups must be given to be worth making.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The most that the processes of a group take together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of memory, with what the host's kernel holds for them, files on a tmpfs included; any if there is none.
    pub(crate) memory: Option<u64>,
    /// Processes and threads.
    pub(crate) tasks: u64,
}

/// A group that is removed in the end. By then it must be empty.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    directory: OwnedFd,
}

impl Group {
    /// A new one, below the nearest where this process may make some.
    pub(crate) fn new(limits: Limits) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let place = delegated()?;
        sweep(&place);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = place.join(format!("{PREFIX}{}-{count}", process::id()));
        fs::create_dir(&path)?;
        let directory = fs::File::open(&path).inspect_err(|_| remove(&path))?;
        let directory = directory.into();
        let group = Self { path, directory };
        limits
            .memory
            .map_or(Ok(()), |memory| group.limit_memory(memory))?;
        fs::write(group.path.join("pids.max"), limits.tasks.to_string())?;
        Ok(group)
    }

    /// Has another limit of memory from now on.
    pub(crate) fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.path.join("memory.max"), bytes.to_string())
    }

    /// Whether the kernel killed a process of it for want of memory.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events"));
        let killed = |line: &str| line.strip_prefix("oom_kill ").is_some_and(|n| n != "0");
        events.is_ok_and(|events| events.lines().any(killed))
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The nearest group at or above this process's own where it may make groups, move itself into them, and have memory and processes
/// limited.
pub(crate) fn delegated() -> io::Result<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = Path::new(MOUNT).join(own.ok_or(io::ErrorKind::Unsupported)?);
    let groups = own
        .ancestors()
        .take_while(|group| group.starts_with(MOUNT) && is_ours(group));
    let mut fit = groups.filter(|group| gives_controllers(group));
    let place = fit.next().ok_or(io::ErrorKind::PermissionDenied)?;
    Ok(place.to_owned())
}

fn is_ours(group: &Path) -> bool {
    let may = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    may(group) && may(&group.join("cgroup.procs"))
}

fn gives_controllers(group: &Path) -> bool {
    let given = fs::read_to_string(group.join("cgroup.subtree_control"));
    given.is_ok_and(|given| {
        CONTROLLERS
            .iter()
            .all(|wanted| given.split_whitespace().any(|name| name == *wanted))
    })
}

/// Removes what makers left here that are no more.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let maker = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|maker| !Path::new(&format!("/proc/{maker}")).exists()) {
            remove(&entry.path());
        }
    }
}

/// Fails for one that has processes, which is as it should be.
fn remove(group: &Path) {
    let _ = fs::remove_dir(group);
}

//! What the VMM process gives up before its guest's first instruction. Refuses to know what the process does with the rest.
//!
//! [`enter`] is for a process with a single thread and takes everything that is the whole process's; [`confine`] filters the
//! system calls of one thread for its role. Neither can be undone.
//!
//! One layer is older than the process: [`Process::start`] makes it the first of a PID namespace.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "hostile"))]
mod acts;
mod filter;
mod layers;
mod process;
mod shares;
mod table;
#[cfg(feature = "hostile")]
pub(crate) mod taken_over;

pub(crate) use layers::MOST_DESCRIPTORS;
pub(crate) use process::Process;
pub(crate) use shares::{Share, Shares};
pub(crate) use table::Role;

/// What to do on a host that forbids a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Go on with the others.
    #[default]
    Auto,
    /// Run nothing.
    Strict,
}

/// What a process has of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Nothing.
    None,
    /// It opens sockets: it keeps the host's, and needs descriptors for them.
    Sockets,
    /// A device that it was handed.
    Tap,
}

/// What the process must go on with.
#[derive(Debug)]
pub(crate) struct Needs<'a> {
    /// Descriptors that stay open, beside standard input, output and error.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// It writes to files.
    pub(crate) writes: bool,
    /// It reads its machine's state and writes it down, its memory perhaps in a process of its own.
    pub(crate) saves: bool,
    /// What its guest's network is made of.
    pub(crate) network: Network,
    /// Threads it will have beside the first.
    pub(crate) threads: u8,
}

/// A layer that this host does not allow.
#[derive(Debug)]
pub(crate) struct Missing {
    layer: &'static str,
    cause: io::Error,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.layer, self.cause)
    }
}

/// Whether [`confine`] filters: unit tests run machines in processes that need their system calls afterwards.
static FILTERS: AtomicBool = AtomicBool::new(false);
/// Whether the first thread will save the machine.
static SAVES: AtomicBool = AtomicBool::new(false);
/// Nanoseconds that all of it has taken.
static COST: AtomicU64 = AtomicU64::new(0);
/// Whether the network is a device.
static TAP: AtomicBool = AtomicBool::new(false);

/// Whether threads other than the one that serves files have rights over files to give up.
static FILE_RIGHTS: AtomicBool = AtomicBool::new(false);

/// Standard input, output and error are not closed.
const STANDARD: RawFd = 3;
/// Room for the worker thread that newer KVMs add to a process.
const KERNEL_THREADS: u64 = 2;

const PROCESSES: &str = "a PID namespace";

/// What a process that [`Process::start`] made has not been given.
pub(crate) fn missing_from_the_start() -> Option<Missing> {
    let cause = || io::ErrorKind::PermissionDenied.into();
    let missing = || Missing {
        layer: PROCESSES,
        cause: cause(),
    };
    (!process::is_first()).then(missing)
}

/// What this host would not give to one.
pub(crate) fn missing_at_a_start() -> Option<Missing> {
    let missing = |cause| Missing {
        layer: PROCESSES,
        cause,
    };
    process::try_namespace().err().map(missing)
}

/// Gives up everything but `needs` and what is in `shares`, which become ways to nothing else, and says what this host did not
/// let it give up. For a process with one thread.
pub(crate) fn enter(needs: &Needs<'_>, shares: &mut Shares) -> Vec<Missing> {
    let begun = worked();
    let number = layers::own_number();
    let mut missing = Vec::new();
    let mut layer = |layer, done: io::Result<()>| {
        let kept = done.is_ok();
        missing.extend(done.err().map(|cause| Missing { layer, cause }));
        kept
    };
    let files = !shares.is_empty();
    let sockets = needs.network == Network::Sockets;
    let journal = needs.network != Network::None;
    layer("no_new_privs", layers::no_new_privileges());
    let kept = shares
        .descriptors()
        .chain(needs.descriptors.iter().copied());
    layer("closed descriptors", close_others(STANDARD, kept));
    layer(
        "resource limits",
        layers::limit(needs.writes, journal, sockets, files),
    );
    // Root serves the files of all users; its namespaces are no user's, or it would lose the right to.
    let of_root = files && layers::leave_namespaces_as_root(sockets).is_ok();
    let apart = of_root || {
        layer("a user of its own", layers::leave_root(number));
        layer("namespaces", layers::leave_namespaces(sockets, files))
    };
    if files {
        layer("mounts of the shares alone", shares.detach(apart));
    }
    if apart {
        layer("an empty root", layers::leave_root_directory());
    }
    if files {
        layer("a way to its descriptors", shares.go_to_descriptors());
    }
    if of_root {
        layer(
            "a user of its own",
            layers::leave_root_keeping_capabilities(number),
        );
        shares.of_root = true;
    }
    let landlock = layers::landlock_version();
    if apart && landlock >= layers::COUNTS_BY_NAMESPACE {
        // Elsewhere the limit would count all the user's processes.
        let threads = u64::from(needs.threads) + u64::from(files) + 1 + KERNEL_THREADS;
        let threads = threads + u64::from(needs.saves);
        layer("a limit of threads", layers::limit_threads(threads));
    }
    layer("Landlock", layers::landlock(landlock, sockets, shares));
    match files && apart {
        true => {
            layer("few capabilities", layers::keep_file_capabilities());
            FILE_RIGHTS.store(true, Ordering::Relaxed);
        }
        false => {
            layer("no capabilities", layers::drop_capabilities());
        }
    }
    layer("no core dump", layers::forbid_dumps());
    if layer("system call filters", filter::available()) {
        FILTERS.store(true, Ordering::Relaxed);
        SAVES.store(needs.saves, Ordering::Relaxed);
        TAP.store(needs.network == Network::Tap, Ordering::Relaxed);
    }
    account(begun);
    missing
}

/// Leaves the calling thread only the rights and system calls of its role. Nothing happens in a process that did not [`enter`];
/// nothing is filtered on a host without filters.
pub(crate) fn confine(role: Role) -> io::Result<()> {
    if role != Role::Files && FILE_RIGHTS.load(Ordering::Relaxed) {
        layers::drop_capabilities()?;
    }
    let role = match role {
        Role::Reactor if SAVES.load(Ordering::Relaxed) => Role::Saver,
        Role::Network if TAP.load(Ordering::Relaxed) => Role::Tap,
        role => role,
    };
    #[cfg(feature = "hostile")]
    taken_over::remember(role);
    if FILTERS.load(Ordering::Relaxed) {
        let begun = worked();
        filter::apply(role)?;
        account(begun);
    }
    Ok(())
}

/// What this process has spent on its jail, all threads together, in nanoseconds of their own time.
pub(crate) fn cost() -> u64 {
    COST.load(Ordering::Relaxed)
}

fn account(begun: Duration) {
    let cost = worked().saturating_sub(begun).as_nanos();
    COST.fetch_add(u64::try_from(cost).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// How long the calling thread has run.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Leaves a process that only writes memory down none of its descriptors but these.
pub(crate) fn keep_only(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    close_others(0, keep.iter().copied())
}

/// Closes everything from `first` on but these.
fn close_others<'a>(
    mut first: RawFd,
    keep: impl Iterator<Item = BorrowedFd<'a>>,
) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.map(|kept| kept.as_raw_fd()).collect();
    keep.sort_unstable();
    let lowest = first;
    for kept in keep.into_iter().filter(|kept| *kept >= lowest) {
        layers::close(first, kept - 1)?;
        first = kept + 1;
    }
    layers::close(first, RawFd::MAX)
}

#[cfg(test)]
mod tests;

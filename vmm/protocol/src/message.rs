//! The messages. Each type's order of fields and variants is its encoding: append, never reorder, and count
//! [`VERSION`](crate::VERSION) up. Knows nothing of how a message is carried out.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// Names a process of the guest for as long as the machine lives. The host chooses the numbers and never reuses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

/// The first frame of every connection, from the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// This is the control connection.
    Hello(Hello),
    /// This connection is one stream of a process.
    Attach(Attach),
}

/// What guest init says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`](crate::VERSION) of the guest's build. Always the first field.
    pub version: u16,
    /// The time stamp counter at guest init's first instruction, in the guest's ticks.
    pub tsc_at_start: u64,
}

/// What the raw bytes after this frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Whose stream.
    pub process: ProcessId,
    /// Which stream.
    pub stream: Stream,
}

/// A stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Host to guest. Only attached when [`Process::stdin`] is set.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
}

/// Host to guest, on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost {
    /// Furnish the container and start its first process. The first message, once.
    Run {
        /// The container, as far as guest init furnishes it.
        container: Container,
        /// Its first process; the machine ends with it.
        process: Process,
    },
    /// Send a signal. Does nothing when the process has ended or never was.
    Signal {
        /// To which process.
        process: ProcessId,
        /// The signal's number on x86-64 Linux, 1 to 64.
        signal: u8,
    },
}

/// What belongs to the container and not to one of its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The host name; at most 64 bytes. Also written to `/etc/hostname`.
    pub hostname: Bytes,
    /// The whole content of `/etc/hosts`; `None` leaves the image's.
    pub hosts: Option<Bytes>,
    /// The whole content of `/etc/resolv.conf`; `None` leaves the image's.
    pub resolv_conf: Option<Bytes>,
}

/// A process to start; the image's configuration and the user's wishes are merged already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What the process is called from now on.
    pub id: ProcessId,
    /// Program and arguments. A program without a slash is looked up in the environment's `PATH`.
    pub argv: Vec<Bytes>,
    /// The environment, `KEY=VALUE` each. Guest init adds `HOME` (and `PATH`, `HOSTNAME`) where missing.
    pub env: Vec<Bytes>,
    /// The working directory, created when missing; empty means `/`.
    pub cwd: Bytes,
    /// `user`, `user:group`; each a name of the image's `/etc/passwd` and `/etc/group`, or a number. Empty means root.
    pub user: Bytes,
    /// Whether the host serves standard input; otherwise it is `/dev/null`.
    pub stdin: bool,
}

/// Guest to host, on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuest {
    /// The process runs the program it was asked to.
    Started {
        /// Which process.
        process: ProcessId,
        /// The guest's time stamp counter when its exec had succeeded.
        tsc: u64,
    },
    /// The process never ran.
    Failed {
        /// Which process.
        process: ProcessId,
        /// What stood in the way.
        failure: Failure,
        /// For the user: what was tried and the system's answer. Written by the guest: escape before it is shown.
        message: String,
    },
    /// The process ran and ended; its output is complete.
    Exited {
        /// Which process.
        process: ProcessId,
        /// How it ended.
        status: Status,
        /// The guest's time stamp counter when guest init saw the end.
        tsc: u64,
    },
}

/// Why a process never ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// There is no such program (exit code 127).
    NotFound,
    /// There is, but it cannot be executed (exit code 126).
    NotExecutable,
    /// The guest could not be furnished for it: a mount, the user, the working directory (exit code 125, the launcher's
    /// own).
    Setup,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It exited with this code.
    Code(u8),
    /// It was killed by this signal.
    Signal(u8),
}

#[cfg(test)]
mod tests;

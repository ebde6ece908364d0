//! The messages. Each type's order of fields and variants is its encoding: append, never reorder, and count
//! [`VERSION`](crate::VERSION) up. Knows nothing of how a message is carried out.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Work};

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

/// A stream of a process. A host that ends its sending direction of an output stream has closed it: the process's next
/// write fails. Of a terminal it may end its sending direction alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Host to guest. Only attached when [`Process::stdin`] is set.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
    /// Both ways, instead of the three others: see [`Process::terminal`].
    Terminal,
}

/// Host to guest, on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is there once in a machine's life"
)]
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
    /// Start a further process in the container.
    Exec {
        /// The process.
        process: Process,
    },
    /// The window of a process's terminal has changed. Does nothing for a process without one.
    Resize {
        /// Whose terminal.
        process: ProcessId,
        /// The window now.
        size: WindowSize,
    },
    /// The machine is about to be saved. Before `Run`: finish what does not depend on a container, and answer
    /// [`FromGuest::Resting`]. After it: stop all processes of the container where they are, move nothing more of their streams,
    /// and answer the same.
    Rest {
        /// What they have changed in memory only is to be in its files before: others have these files too.
        sync: bool,
    },
    /// The machine is a copy of another one. What comes next is of its own; the first message after a save. Where a container ran
    /// when it was saved, all connections are gone: guest init has said hello on a new one, connects the first process's output
    /// anew, lets the container go on, and answers [`FromGuest::Started`] for its first process. That process's input is at its
    /// end, and processes beside it have been killed.
    Renew(Renewal),
    /// Do something without a program of the image: in a process of init's own with the three standard streams, whose end
    /// is told as any other's. As the first message, instead of [`FromHost::Run`], it is all that the machine is for.
    Work {
        /// What the process is called.
        process: ProcessId,
        /// What is to be done.
        work: Work,
    },
    /// The container goes on, which [`FromHost::Rest`] had stopped: it was saved, or was not.
    GoOn,
    /// Bound a container that runs anew.
    Bound(Bounds),
    /// Before `Rest` and `Run`: copies of this machine will run this program, which may be read ahead.
    ReadAhead {
        /// As in [`Process::argv`].
        program: Bytes,
        /// The environment's `PATH`; empty means docker's.
        path: Bytes,
    },
}

/// What a container may have of its machine at most, from now on. `None` leaves it as it is; `u64::MAX` is all there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Bytes of memory, of all its processes and of files in memory together.
    pub memory: Option<u64>,
    /// Whole processors' time.
    pub cpus: Option<u64>,
    /// Processes and threads at once.
    pub pids: Option<u64>,
}

/// What makes a copy of a machine another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Random bytes of the host, [`ENTROPY`] of them, that no other machine gets.
    pub entropy: Bytes,
    /// The time, nanoseconds since 1970.
    pub time: u64,
    /// The network card's hardware address, where the machine has used another one; 6 bytes.
    pub mac: Option<Bytes>,
}

/// How many random bytes a copy of a machine gets: twice what the kernel's generator has for a key.
pub const ENTROPY: usize = 64;

/// What belongs to the container and not to one of its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The host name; at most 64 bytes. Also written to `/etc/hostname`.
    pub hostname: Bytes,
    /// The whole content of `/etc/hosts`; `None` leaves the image's.
    pub hosts: Option<Bytes>,
    /// The whole content of `/etc/resolv.conf`; `None` leaves the image's.
    pub resolv_conf: Option<Bytes>,
    /// Kernel parameters to set.
    pub sysctls: Vec<Sysctl>,
    /// The size of `/dev/shm` in bytes; `None` means 64 MiB.
    pub shm_size: Option<u64>,
    /// File systems in memory, mounted in this order.
    pub tmpfs: Vec<Tmpfs>,
    /// Whether docker's list of `/proc` and `/sys` paths is hidden or read-only, and `/sys` as a whole read-only. Where it
    /// is not, there are also the device nodes that only `docker run --privileged` has.
    pub confined: bool,
    /// Whether the root is read-only, `/tmp` and `/run` included; other mounts on it are not.
    pub read_only: bool,
    /// How many processes and threads the container may have at once; `None` is no limit.
    pub pids: Option<u64>,
    /// The network card's addresses; `None`: there is no card.
    pub network: Option<Network>,
    /// What of the host's file system device is mounted; in any order, mount points before what lies on them.
    pub volumes: Vec<Volume>,
}

/// How the network card is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Its addresses, the IPv4 one first. IPv6 is done without where the kernel's parameters forbid it.
    pub addresses: Vec<Address>,
    /// Its hardware address, which a machine from a template has from somewhere else until then; 6 bytes.
    pub mac: Bytes,
    /// Ways to what is not in the addresses' own networks, IPv4's first.
    pub routes: Vec<Route>,
}

/// An address of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// 4 or 16 bytes.
    pub address: Bytes,
    /// Leading bits that all of its network share.
    pub prefix: u8,
}

/// A way to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network's first address: 4 or 16 bytes. Zeros with a prefix of 0 are everywhere.
    pub destination: Bytes,
    /// Leading bits that all of the network share.
    pub prefix: u8,
    /// The router to it, of the same length; empty where the network is on the link itself.
    pub gateway: Bytes,
}

/// A directory or a file of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where it is mounted: an absolute path, created when missing.
    pub path: Bytes,
    /// Its number, which is its name in the root of the device's file system ([`VOLUMES_TAG`](crate::VOLUMES_TAG)).
    pub number: u16,
    /// Whether the guest mounts it read-only. What must not change does not for the host's sake, not for this one's.
    pub read_only: bool,
    /// Whether it gets what the image has at its path, should it be empty.
    pub fill: bool,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its name with dots, as `net.core.somaxconn`.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where: an absolute path, created when missing.
    pub path: Bytes,
    /// tmpfs's own options, as `size=64m,mode=1777`; may be empty.
    pub options: Bytes,
    /// Whether programs on it may be executed, device nodes used, and setuid bits honoured.
    pub flags: MountFlags,
}

/// What a mount forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// Nothing may be changed.
    pub read_only: bool,
    /// No programs.
    pub no_exec: bool,
    /// No device nodes.
    pub no_dev: bool,
    /// No setuid and setgid bits.
    pub no_suid: bool,
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
    /// Groups besides those of the user, names or numbers.
    pub groups: Vec<Bytes>,
    /// Whether the host serves standard input; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// A terminal of this size is the process's three standard streams; it is attached as one
    /// [`Stream::Terminal`].
    pub terminal: Option<WindowSize>,
    /// What root's rights are worth.
    pub privileges: Privileges,
    /// Resource limits besides docker's defaults.
    pub limits: Vec<Limit>,
    /// Seccomp filters that it and its children are under: each the instructions of a program for seccomp(2), 8 bytes an
    /// instruction.
    pub filters: Vec<Bytes>,
}

/// A terminal's window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What a process may do at most, whoever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// The capabilities that it and its children can ever have: bit `n` is capability `n` of capabilities(7).
    pub capabilities: u64,
    /// Whether executing a program may never add rights.
    pub no_new: bool,
}

impl Privileges {
    /// Everything the kernel has: root is root, and `docker run --privileged`.
    pub const FULL: Self = Self {
        capabilities: u64::MAX,
        no_new: false,
    };
    /// Docker's default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
    /// SYS_CHROOT, MKNOD, AUDIT_WRITE and SETFCAP.
    pub const DOCKER: Self = Self {
        capabilities: 0xa804_25fb,
        no_new: false,
    };
}

/// A resource limit, as setrlimit(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The number of the resource on x86-64 Linux, as 7 for open files.
    pub resource: u8,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
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
        /// Connections that carried its output.
        outputs: u8,
    },
    /// The answer to `Rest`: nothing is under way any more.
    Resting,
    /// The kernel has killed a process for lack of memory. Told once, before the first process's end.
    Starved {
        /// The first process.
        process: ProcessId,
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

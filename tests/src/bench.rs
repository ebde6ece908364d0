//! What `cargo xtask bench` and the scenarios in `benches/` agree on: the scenarios' names, and the form of
//! `target/bench/results.json`. Knows neither how anything is measured nor how it is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the lab, on the clock that counts instructions.
    Lab,
    /// On this machine, on its own clock.
    Machine,
}

/// A scenario that can be chosen: its name, where it runs and what it measures.
pub type Scenario = (&'static str, Place, &'static str);

/// Every scenario, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    ("start", Place::Lab, "run of `true` from start to end"),
    ("start-warm", Place::Lab, "the same from a template"),
    (
        "phases",
        Place::Lab,
        "what each phase of it takes, and its counts",
    ),
    (
        "footprint",
        Place::Lab,
        "memory of the VMM process, and sizes of files",
    ),
    (
        "memory",
        Place::Lab,
        "memory that a container costs which waits: a shell, python, redis",
    ),
    (
        "exec",
        Place::Lab,
        "`true` in a container that runs already",
    ),
    (
        "many",
        Place::Lab,
        "runs of `true` that begin at once: 1, 10, 50 and 100",
    ),
    (
        "server",
        Place::Lab,
        "a web server in python, to its first answer",
    ),
    ("cpu", Place::Lab, "a hash loop and a compiler"),
    (
        "memory-bound",
        Place::Lab,
        "memory written, copied and read at random",
    ),
    ("syscall", Place::Lab, "getpid; open, stat and close"),
    ("fork", Place::Lab, "processes that end at once"),
    (
        "page-fault",
        Place::Lab,
        "32 MiB of memory, touched for the first time and again",
    ),
    (
        "files",
        Place::Lab,
        "reads, writes and names on the image, on tmpfs and on a volume; a volume beside the host's own file system",
    ),
    (
        "network",
        Place::Lab,
        "a guest's network, beside QEMU's own and passt",
    ),
    (
        "conversion",
        Place::Machine,
        "an image becomes a file system",
    ),
    ("pull", Place::Machine, "what converting adds to a download"),
    (
        "clones",
        Place::Lab,
        "copies of a container that runs, by one command: 1, 10 and 100",
    ),
    (
        "snapshots",
        Place::Lab,
        "a snapshot of a container that runs, how long it pauses for that, an idle copy's memory, and a warmed python3",
    ),
];

/// All that was measured in one go: `target/bench/results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Counted up when a field changes its meaning: [`SCHEMA`].
    pub schema: u32,
    /// What was measured, as `git describe --always --dirty` calls it.
    pub revision: String,
    /// What it was measured on: processors, memory and kernel. Figures in lab ms and counts do not depend on it.
    pub machine: String,
    /// One for each measurement and runtime.
    pub results: Vec<Row>,
}

/// The form described here.
pub const SCHEMA: u32 = 1;

/// One measurement of one runtime. Rows of the same scenario and name are the same work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// A name of [`SCENARIOS`].
    pub scenario: String,
    /// What was measured, in words.
    pub name: String,
    /// Who did it: hull, crun, runc, qemu, passt (with QEMU), or process, which is no container at all.
    pub runtime: String,
    /// What samples, figure and target are in. "lab ms" are millions of instructions of the emulated host; "ms" are this
    /// machine's.
    pub unit: String,
    /// What each run took, in the order of the runs.
    pub samples: Vec<f64>,
    /// In the lab the best of the samples: the run that waited for nobody. With `--host` their median.
    pub figure: f64,
    /// What the figure should be, if anything was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Of hull's rows, the figure as a multiple of crun's for the same work, if that was measured too. Of work in a container that
    /// runs already this is what a machine costs once it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<f64>,
    /// What was counted in one more run, teardown included, by name: instructions (those of guests and of the host apart, as
    /// far as what entering and leaving costs can be taken off), exits by KVM's reasons and those that reached user space,
    /// system calls, bytes that these read and wrote (those of who measures among them), page faults and pages taken on the
    /// host, KiB of guest memory touched. In the lab the same on any machine but for a few; with `--host` nanoseconds stand
    /// for instructions. Of fifty runs at once and more only what the processes' own books have: what they took, page faults
    /// and bytes. Absent from pieces of a run whose counts are in the row of the whole, by the same runtime in the same
    /// scenario, and from what is no run, as the size of a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// `benches/baseline.json`: what was counted when somebody last looked, by what was run and by what was counted. Who changes it
/// says why in the commit.
pub type Baseline = BTreeMap<String, BTreeMap<String, Known>>;

/// A count, and by how much more it may be without anybody having changed anything.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Known {
    /// What was counted.
    pub count: u64,
    /// How much more does not matter.
    pub slack: u64,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    /// Whether a figure is what it should be.
    #[must_use]
    pub fn met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

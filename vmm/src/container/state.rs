//! How a container stands.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::health::Health;
use crate::publish::Bound;
use crate::uplink::Card;

/// The code of what was ended by SIGKILL.
pub(crate) const KILLED: u8 = 137;

/// How a container stands, as its supervisor last wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Where in its life it is.
    pub(crate) status: Status,
    /// Its supervisor's process; 0 is none.
    pub(crate) pid: u32,
    /// Its VMM's process; 0 is none.
    pub(crate) vmm: u32,
    /// When its first process started, in nanoseconds since 1970; 0 is never.
    pub(crate) started: u64,
    /// When it last ended; 0 is never.
    pub(crate) finished: u64,
    /// The exit code of its last end.
    pub(crate) exit_code: u8,
    /// Why it ended, where that was not its first process's end.
    pub(crate) error: String,
    /// Whether its last end was, or came after, one of its processes' for lack of memory.
    #[serde(default)]
    pub(crate) oom_killed: bool,
    /// What is known of its health, where that is checked.
    #[serde(default)]
    pub(crate) health: Option<Health>,
    /// How many times it was started again.
    pub(crate) restarts: u32,
    /// Where its ports are published, when it last ran.
    #[serde(default)]
    pub(crate) ports: Vec<Bound>,
    /// What its network card had, when it last ran, where only its network knows that.
    #[serde(default)]
    pub(crate) card: Option<Card>,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Never started.
    #[default]
    Created,
    /// A virtual machine runs or is about to.
    Running,
    /// It is stopped where it is.
    Paused,
    /// It waits before its next start.
    Restarting,
    /// It ran once.
    Exited,
}

impl State {
    /// Whether it has a supervisor, unless that was killed.
    pub(crate) fn runs(&self) -> bool {
        match self.status {
            Status::Running | Status::Paused | Status::Restarting => true,
            Status::Created | Status::Exited => false,
        }
    }

    /// Where its ports are published now.
    pub(crate) fn bound(&self) -> Vec<Bound> {
        match self.status {
            Status::Running | Status::Paused => self.ports.clone(),
            Status::Created | Status::Restarting | Status::Exited => Vec::new(),
        }
    }

    /// A state that cannot be read.
    pub(crate) fn lost(error: String) -> Self {
        Self {
            status: Status::Exited,
            exit_code: KILLED,
            error,
            ..Self::default()
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        })
    }
}

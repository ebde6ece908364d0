//! How a run ended, in the agent's words and in the user's.

use crate::launch::Died;
use std::io;

use protocol::{FrameError, Status};
use rustix::io::Errno;

use super::BOOT_LIMIT;
use crate::failure::{Failure, NOT_EXECUTABLE, NOT_FOUND};
use crate::host;
use crate::machine::report::End;

/// How the workload ended and when it passed which point.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// The guest's time stamp counter when init started, the workload started, and it ended.
    pub(crate) ticks: [u64; 3],
    /// The machine was not restored.
    pub(crate) booted: bool,
}

/// Why there is no exit status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("The guest did not answer within {} seconds", BOOT_LIMIT.as_secs())]
    Silent,
    #[error("{0}")]
    Failed(String, protocol::Failure),
    #[error("{}", ended(.0))]
    Ended(End),
    #[error("The VMM process died before the command ended{0}")]
    Died(Died),
    #[error("The guest broke the agent protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("Waiting for the guest failed")]
    Wait(#[from] Errno),
    #[error("Passing on the command's output failed")]
    Output(#[from] io::Error),
    #[error("Its client has gone")]
    Abandoned,
    #[error("It was ended by force")]
    Destroyed,
}

fn ended(end: &End) -> String {
    match end {
        End::Orderly => "The guest reset itself before the command ended".to_owned(),
        End::Panic { message } => format!("The guest's kernel panicked: {message}"),
        End::TripleFault => "The guest's processor gave up (triple fault)".to_owned(),
        End::HungUp => "The virtual machine was stopped from outside".to_owned(),
        End::Saved => "The virtual machine was saved".to_owned(),
        End::Emulation { reason } => reason.clone(),
        End::Failed { cause } => format!("The VMM failed: {cause}"),
    }
}

impl AgentError {
    /// As the user is told it.
    pub(crate) fn into_failure(self) -> Failure {
        match &self {
            Self::Failed(_, protocol::Failure::NotFound) => Failure::new(self).code(NOT_FOUND),
            Self::Failed(_, protocol::Failure::NotExecutable) => {
                Failure::new(self).code(NOT_EXECUTABLE)
            }
            Self::Destroyed => Failure::new(self).code(crate::container::KILLED),
            Self::Ended(End::Emulation { .. }) => Failure::new(self).hint(host::explain_emulated()),
            Self::Ended(End::Panic { .. } | End::TripleFault) | Self::Silent => Failure::new(self)
                .hint("`hull run --kernel-log` shows what the guest's kernel says."),
            _ => Failure::new(self),
        }
    }
}

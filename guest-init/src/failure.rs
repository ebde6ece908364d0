//! Why a process never ran, as the host is told. Knows no cause but by its type.

use alloc::string::{String, ToString};
use core::fmt;

use protocol::Failure;
use thiserror::Error;

use crate::errno::SystemError;
use crate::identity::IdentityError;
use crate::program::NotExecuted;

/// The guest could not be furnished for the process.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A mount was refused.
    #[error("The guest cannot mount {what} on {at}: {error}")]
    Mount {
        /// The file system's type.
        what: &'static str,
        /// The mount point.
        at: &'static str,
        /// The system's answer.
        error: SystemError,
    },
    /// A file or directory could not be made or written.
    #[error("The guest cannot {doing} {path}: {error}")]
    File {
        /// A verb: create, write, remove …
        doing: &'static str,
        /// What it is done to, escaped.
        path: String,
        /// The system's answer.
        error: SystemError,
    },
    /// Another request was refused.
    #[error("The guest cannot {doing}: {error}")]
    System {
        /// What was asked of the system.
        doing: &'static str,
        /// Its answer.
        error: SystemError,
    },
    /// An argument, variable or path that the system cannot take.
    #[error("The {what} {value} contains a zero byte")]
    ZeroByte {
        /// What it is.
        what: &'static str,
        /// Its value, escaped.
        value: String,
    },
    /// The user to run as is not to be had.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Why a process never ran.
#[derive(Debug)]
pub enum StartError {
    /// The guest is not ready for it.
    Setup(SetupError),
    /// The program is missing or cannot be executed.
    Program(NotExecuted),
}

impl StartError {
    /// The kind the host maps to an exit code.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Setup(_) => Failure::Setup,
            Self::Program(error) => error.failure,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => error.fmt(f),
            Self::Program(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<SetupError> for StartError {
    fn from(error: SetupError) -> Self {
        Self::Setup(error)
    }
}

/// For `map_err`: the system refused to do this.
pub fn refused(doing: &'static str) -> impl Fn(rustix::io::Errno) -> SetupError {
    move |error| SetupError::System {
        doing,
        error: SystemError(error),
    }
}

/// For `map_err`: the system refused to do this to a file.
pub fn refused_file(doing: &'static str, path: &[u8]) -> impl Fn(rustix::io::Errno) -> SetupError {
    move |error| SetupError::File {
        doing,
        path: path.escape_ascii().to_string(),
        error: SystemError(error),
    }
}

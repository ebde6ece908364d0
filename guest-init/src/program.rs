//! Which files to try for a program, and what an attempt's failure means. Executes nothing.

use alloc::ffi::CString;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;

use protocol::Failure;
use rustix::fs::Access;
use rustix::io::Errno;

use crate::errno::SystemError;

/// A program as it was asked for, and the files that may be it.
#[derive(Debug)]
pub struct Program {
    name: Vec<u8>,
    path: Vec<u8>,
    candidates: Vec<CString>,
}

/// Why a program could not be executed.
#[derive(Debug)]
pub struct NotExecuted {
    /// Whether there is such a program at all.
    pub failure: Failure,
    name: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    NotInPath(String),
    Missing,
    NoInterpreter,
    System(SystemError),
}

impl Program {
    /// A name with a slash is that file (from the working directory); any other is looked for in each directory of
    /// `path`, where an empty one is the working directory.
    #[must_use]
    pub fn new(name: &[u8], path: &[u8]) -> Self {
        let candidates = if name.is_empty() {
            Vec::new()
        } else if name.contains(&b'/') {
            CString::new(name).into_iter().collect()
        } else {
            let in_directory = |directory: &[u8]| match directory {
                b"" => [b"./", name].concat(),
                _ => [directory, b"/", name].concat(),
            };
            path.split(|byte| *byte == b':')
                .filter_map(|directory| CString::new(in_directory(directory)).ok())
                .collect()
        };
        Self {
            name: name.to_vec(),
            path: path.to_vec(),
            candidates,
        }
    }

    /// The files that may be it, the likeliest first.
    #[must_use]
    pub fn files(&self) -> &[CString] {
        &self.candidates
    }

    /// Tries one file after the other, in the child: as the user and from the working directory. `attempt` does not
    /// return where it succeeds.
    pub fn execute(&self, mut attempt: impl FnMut(&CStr) -> Errno) -> Attempt {
        let mut result = Attempt {
            at: 0,
            errno: Errno::NOENT,
            exists: false,
        };
        for (at, candidate) in self.candidates.iter().enumerate() {
            match attempt(candidate) {
                Errno::NOENT | Errno::NOTDIR => {
                    // A script or dynamic program whose interpreter is missing says so too, and hides what follows.
                    if rustix::fs::access(candidate.as_c_str(), Access::EXISTS).is_ok() {
                        return Attempt {
                            at,
                            errno: Errno::NOENT,
                            exists: true,
                        };
                    }
                }
                // Perhaps a later directory has one that may be executed.
                Errno::ACCESS => {
                    result = Attempt {
                        at,
                        errno: Errno::ACCESS,
                        exists: true,
                    }
                }
                errno => {
                    return Attempt {
                        at,
                        errno,
                        exists: true,
                    };
                }
            }
        }
        result
    }

    /// What the user is told about a failed attempt.
    #[must_use]
    pub fn explain(&self, attempt: Attempt) -> NotExecuted {
        let name = match self.candidates.get(attempt.at) {
            Some(file) if attempt.exists => shown(file.to_bytes()),
            _ => shown(&self.name),
        };
        let (failure, cause) = match attempt.errno {
            Errno::NOENT if attempt.exists => (Failure::NotFound, Cause::NoInterpreter),
            Errno::NOENT if self.name.contains(&b'/') => (Failure::NotFound, Cause::Missing),
            Errno::NOENT => (Failure::NotFound, Cause::NotInPath(shown(&self.path))),
            errno => (Failure::NotExecutable, Cause::System(SystemError(errno))),
        };
        NotExecuted {
            failure,
            name,
            cause,
        }
    }
}

/// The file that was tried last and the system's answer; small enough to be told from one process to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Position among the files that may be the program.
    pub at: usize,
    /// The answer; `NOENT` where no file was found.
    pub errno: Errno,
    /// Whether the file is there.
    pub exists: bool,
}

impl fmt::Display for NotExecuted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.cause {
            Cause::NotInPath(path) => {
                write!(f, "Program \"{name}\" is in no directory of PATH ({path})")
            }
            Cause::Missing => write!(f, "Program \"{name}\" does not exist"),
            Cause::NoInterpreter => write!(
                f,
                "Program \"{name}\" exists, but its interpreter or loader does not"
            ),
            Cause::System(error) => write!(f, "Program \"{name}\" cannot be executed: {error}"),
        }
    }
}

impl core::error::Error for NotExecuted {}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;

//! `--security-opt`. Knows what hull's guests have of what docker can switch.

use std::path::PathBuf;
use std::str::FromStr;

/// What an option changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Whether executing a program may never add rights.
    NoNewPrivileges(bool),
    /// The profile in a file is in force, or none is.
    Seccomp(Option<PathBuf>),
    /// Nothing: it is so in every container of hull.
    AlwaysSo,
}

/// An option that hull does not take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecurityError {
    #[error("write no-new-privileges, no-new-privileges=true or no-new-privileges=false")]
    NoNewPrivileges,
    #[error(
        "hull has no seccomp profile of its own, for the kernel that a command calls is its container's: \
         name one in a file, or leave the option out"
    )]
    Seccomp,
    #[error("the guest's kernel has neither AppArmor nor SELinux: leave the option out")]
    Module,
    #[error("the paths are hidden and read-only together: --privileged lifts that")]
    SystemPaths,
    #[error("hull knows no-new-privileges[=true|false], seccomp=FILE and seccomp=unconfined")]
    Unknown,
}

impl FromStr for Security {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<Self, SecurityError> {
        // docker's older separator is the colon.
        let at = text.find(['=', ':']);
        let (name, value) = match at.map(|at| text.split_at(at)) {
            Some((name, value)) => (name, value.get(1..)),
            None => (text, None),
        };
        match (name, value) {
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("no-new-privileges", _) => Err(SecurityError::NoNewPrivileges),
            ("apparmor", Some("unconfined")) | ("label", Some("disable")) => Ok(Self::AlwaysSo),
            ("seccomp", Some("unconfined")) => Ok(Self::Seccomp(None)),
            ("seccomp", None | Some("" | "builtin")) => Err(SecurityError::Seccomp),
            ("seccomp", Some(file)) => Ok(Self::Seccomp(Some(file.into()))),
            ("apparmor" | "label", _) => Err(SecurityError::Module),
            ("systempaths", _) => Err(SecurityError::SystemPaths),
            _ => Err(SecurityError::Unknown),
        }
    }
}

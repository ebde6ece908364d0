//! What was asked of a container when it was made, and when it was renamed or updated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::health::Check;
use super::log::Limits;
use crate::config::{Root, VmConfig};
use crate::networks::Membership;
use crate::publish::Publish;
use crate::uplink::Uplink;

/// A container as it was asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Its name, of which there is no second one.
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) created: u64,
    /// The image as it was typed.
    pub(crate) image: String,
    /// The image's id; empty where there is a directory instead.
    pub(crate) image_id: String,
    /// The directory of the host that is its root, or the lower part of that, instead of an image's.
    #[serde(default)]
    pub(crate) rootfs: Option<Volume>,
    /// The virtual machine.
    pub(crate) machine: VmConfig,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub(crate) ports: Vec<Publish>,
    /// The network of the user's own that it is in.
    #[serde(default)]
    pub(crate) network: Option<Membership>,
    /// The device of the host's that its network card leads to.
    #[serde(default)]
    pub(crate) uplink: Option<Uplink>,
    /// A kernel of the user's own.
    pub(crate) kernel: Option<PathBuf>,
    /// The command, for lists.
    pub(crate) command: Vec<String>,
    /// The first process has a terminal.
    pub(crate) tty: bool,
    /// The first process's standard input is kept open.
    pub(crate) interactive: bool,
    /// It is removed when it ends.
    pub(crate) remove: bool,
    /// What its users call it by.
    pub(crate) labels: BTreeMap<String, String>,
    /// What becomes of its output.
    pub(crate) log: LogDriver,
    /// How much of it is kept.
    #[serde(default)]
    pub(crate) log_limits: Limits,
    /// Where its VMM's process id is written.
    #[serde(default)]
    pub(crate) pidfile: Option<PathBuf>,
    /// How its health is checked.
    #[serde(default)]
    pub(crate) health: Option<Check>,
    /// The signal that asks it to stop, by number.
    pub(crate) stop_signal: u8,
    /// Seconds it has to obey.
    pub(crate) stop_timeout: u64,
    /// Whether it is started again when it ends by itself.
    pub(crate) restart: Restart,
    /// Bytes of the disk that keeps what it writes; 0 is none.
    #[serde(default)]
    pub(crate) storage: u64,
    /// How its machine comes to be.
    #[serde(default)]
    pub(crate) start: Way,
    /// What it sees of the host beside, in the order of its task's volumes.
    #[serde(default)]
    pub(crate) volumes: Vec<Volume>,
}

impl Config {
    /// Whether its machine may come from a template: whoever wants the kernel's log wants a boot, and
    /// a template's root is an image. One that an older hull made may have volumes that its machine does not tell of.
    pub(crate) fn may_be_warm(&self) -> bool {
        self.start != Way::Cold
            && !self.machine.kernel_log
            && self.rootfs.is_none()
            && self.machine.volumes != self.volumes.is_empty()
    }

    /// All that it sees of the host, in the order of the numbers in its machine.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Volume> {
        self.rootfs.iter().chain(&self.volumes)
    }

    /// The name of the network of the user's own that it is in.
    pub(crate) fn own_network(&self) -> Option<&str> {
        let membership = self.network.as_ref()?;
        Some(membership.name.as_str())
    }

    /// Whether what it writes is there when it does not run.
    pub(crate) fn keeps(&self) -> bool {
        self.storage > 0 || self.machine.root == Root::Direct
    }
}

/// How a machine comes to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Way {
    /// From a template where there is one; else it boots, and a template is left for the next.
    Auto,
    /// It boots, and nothing is left.
    #[default]
    Cold,
    /// From a template, which is made first where there is none.
    Warm,
}

/// A directory or file of the host in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// The volume's name, if it is one.
    pub(crate) name: Option<String>,
    /// Where it is on the host, without links when the container was made.
    pub(crate) path: PathBuf,
    /// Where it is in the container.
    pub(crate) target: String,
    /// Nothing in it changes.
    pub(crate) read_only: bool,
}

/// What becomes of a container's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum LogDriver {
    /// Kept, as docker's driver of this name does.
    #[default]
    JsonFile,
    /// Only who is attached sees it.
    None,
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Restart {
    /// Never.
    #[default]
    No,
    /// When it fails, so many times at most.
    OnFailure(Option<u32>),
    /// Whenever it was not stopped.
    Always,
    /// The same. Without a daemon there is nobody who could tell the two apart after a reboot.
    UnlessStopped,
}

/// Text that is no restart policy.
#[derive(Debug, thiserror::Error)]
#[error("no restart policy: no, on-failure[:TIMES], always or unless-stopped")]
pub(crate) struct RestartError;

impl FromStr for Restart {
    type Err = RestartError;

    fn from_str(text: &str) -> Result<Self, RestartError> {
        match text.split_once(':') {
            None => match text {
                "no" | "" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure(None)),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(RestartError),
            },
            Some(("on-failure", times)) => match times.parse() {
                Ok(0) => Ok(Self::OnFailure(None)),
                Ok(times) => Ok(Self::OnFailure(Some(times))),
                Err(_) => Err(RestartError),
            },
            Some(_) => Err(RestartError),
        }
    }
}

impl Restart {
    /// Whether a container that has ended with this code, not because it was told to, starts once more after `before`
    /// times.
    pub(crate) fn again(self, code: u8, before: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && most.is_none_or(|most| before < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

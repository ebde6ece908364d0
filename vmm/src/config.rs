//! What a virtual machine is to be: sizes and switches, checked when they are made.
//!
//! Knows nothing of images, of the command line or of KVM; descriptors travel beside it (`vmm::Start`).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::jail;

/// The shape of one virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VmConfig {
    /// Guest memory. Not committed up front: what the guest never touches costs nothing.
    pub(crate) memory: Memory,
    /// Virtual processors.
    pub(crate) cpus: Cpus,
    /// Carry the guest kernel's whole log to the VMM's standard error, not only its last words.
    pub(crate) kernel_log: bool,
    /// With what each of the kernel's initcalls takes.
    #[serde(default)]
    pub(crate) initcalls: bool,
    /// What to do on a host that forbids a layer of the VMM's jail.
    pub(crate) jail: jail::Mode,
    /// The network card and what it leads to; `None`: there is none.
    #[serde(default)]
    pub(crate) network: Option<network::Settings>,
    /// What the guest's root file system is made of.
    #[serde(default)]
    pub(crate) root: Root,
    /// It has the file system device, whatever is in that: a template has nothing in it.
    #[serde(default)]
    pub(crate) volumes: bool,
    /// Count what it took of the host in the end, which takes a while: `run --timings`.
    #[serde(default)]
    pub(crate) timings: bool,
}

impl Default for VmConfig {
    fn default() -> Self {
        Self {
            memory: Memory::DEFAULT,
            cpus: Cpus::ONE,
            kernel_log: false,
            initcalls: false,
            jail: jail::Mode::default(),
            network: None,
            root: Root::default(),
            volumes: false,
            timings: false,
        }
    }
}

impl VmConfig {
    /// What of it the machine itself is made of: neither the jail of its process, nor what its network card is called and leads to, nor
    /// what is told of it.
    pub(crate) fn shape(&self) -> Self {
        Self {
            jail: jail::Mode::default(),
            timings: false,
            network: self.network.as_ref().map(|_| network::Settings::default()),
            ..self.clone()
        }
    }
}

/// What a guest's root file system is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Root {
    /// The first disk, which has an image, under a layer of what is written.
    #[default]
    Image,
    /// The first share, under such a layer.
    Lower,
    /// The first share, which takes what is written.
    Direct,
}

impl Root {
    /// What the file system device is called, by which the guest knows which of them it is.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Image => protocol::VOLUMES_TAG,
            Self::Lower => protocol::LOWER_TAG,
            Self::Direct => protocol::ROOT_TAG,
        }
    }

    /// How many shares it takes.
    pub(crate) fn shares(self) -> u16 {
        u16::from(self != Self::Image)
    }
}

/// A number that no virtual machine can have.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// Guest memory out of bounds.
    #[error("A virtual machine has {least} MiB to {most} MiB of memory, not {0} MiB", least = Memory::LEAST, most = Memory::MOST)]
    Memory(u64),
    /// Too few or too many virtual processors.
    #[error("A virtual machine has 1 to {most} processors, not {0}", most = Cpus::MOST)]
    Cpus(u64),
}

/// Guest memory in MiB, within what a guest can boot in and a host can map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub(crate) struct Memory(u64);

impl Memory {
    /// The least a trimmed kernel and its init fit in, MiB.
    pub(crate) const LEAST: u64 = 32;
    /// 1 TiB, in MiB: stays below every host's physical address width.
    pub(crate) const MOST: u64 = 1 << 20;
    /// The smallest machine.
    pub(crate) const SMALLEST: Self = Self(Self::LEAST);
    /// What `hull run` gives unless told otherwise.
    pub(crate) const DEFAULT: Self = Self(256);

    /// So many MiB of memory.
    pub(crate) fn mib(mib: u64) -> Result<Self, ConfigError> {
        if (Self::LEAST..=Self::MOST).contains(&mib) {
            Ok(Self(mib))
        } else {
            Err(ConfigError::Memory(mib))
        }
    }

    /// The size in bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.0 << 20
    }
}

impl TryFrom<u64> for Memory {
    type Error = ConfigError;

    fn try_from(mib: u64) -> Result<Self, ConfigError> {
        Self::mib(mib)
    }
}

impl From<Memory> for u64 {
    fn from(memory: Memory) -> Self {
        memory.0
    }
}

/// How many virtual processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub(crate) struct Cpus(u8);

impl Cpus {
    /// One processor: the flavour of kernel without SMP serves it.
    pub(crate) const ONE: Self = Self(1);
    /// As many as the MP table and the interrupt controller are laid out for.
    pub(crate) const MOST: u64 = 16;

    /// So many processors.
    pub(crate) fn new(count: u64) -> Result<Self, ConfigError> {
        match u8::try_from(count) {
            Ok(small) if (1..=Self::MOST).contains(&count) => Ok(Self(small)),
            _ => Err(ConfigError::Cpus(count)),
        }
    }

    /// The number.
    pub(crate) fn count(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for Cpus {
    type Error = ConfigError;

    fn try_from(count: u64) -> Result<Self, ConfigError> {
        Self::new(count)
    }
}

impl From<Cpus> for u64 {
    fn from(cpus: Cpus) -> Self {
        u64::from(cpus.0)
    }
}

#[cfg(test)]
mod tests;

//! How a virtual machine ended and what it cost, in the form the VMM process sends to the launcher.
//!
//! Plain data: knows neither how it is found out nor how it is shown.

use serde::{Deserialize, Serialize};

/// The VMM's only message to the launcher, sent once, when the guest no longer runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What ended the virtual machine.
    pub(crate) end: End,
    /// What it did, counted.
    pub(crate) counts: Counts,
    /// When it reached which phase.
    pub(crate) timings: Timings,
}

/// What ended a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// The guest asked for its reset: the way guest init powers off.
    Orderly,
    /// The guest's kernel panicked. The message is one line without control characters, at most 200 bytes.
    Panic {
        /// What follows "Kernel panic - not syncing: ".
        message: String,
    },
    /// The guest faulted while it delivered a fault, without a panic message before.
    TripleFault,
    /// The launcher closed its end; the guest was stopped wherever it was.
    HungUp,
    /// The machine was saved, as the launcher had asked.
    Saved,
    /// This host's KVM interprets kernel code and cannot run a guest.
    Emulation {
        /// The sentence that says how it showed.
        reason: String,
    },
    /// The VMM could not go on; the guest is not to blame.
    Failed {
        /// The whole chain of causes, sentence case, joined by ": ".
        cause: String,
    },
}

/// What happened between the first entry and the end; the same on every host for the same guest work, but for `interrupted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Exits to user space for port reads and writes.
    pub(crate) port: u64,
    /// Exits to user space for accesses outside memory.
    pub(crate) mmio: u64,
    /// Returns from KVM because a signal asked for it.
    pub(crate) interrupted: u64,
    /// Every other exit to user space, the last one included.
    pub(crate) other: u64,
    /// Queue notifications served (they do not exit to user space).
    pub(crate) kicks: u64,
    /// Bytes of guest memory that hold data of this guest alone.
    pub(crate) memory_touched: u64,
    /// Devices the guest's kernel never started, with the option that would have: ("block", "CONFIG_VIRTIO_BLK").
    pub(crate) unused_devices: Vec<(String, String)>,
    /// Sentences about what went wrong without ending the machine: "The guest broke its block device: …".
    pub(crate) remarks: Vec<String>,
}

impl Counts {
    /// All exits to user space.
    pub(crate) fn exits(&self) -> u64 {
        self.port + self.mmio + self.interrupted + self.other
    }
}

/// Moments of a VMM's life, in nanoseconds of CLOCK_MONOTONIC (zero: never reached).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timings {
    /// First instruction of the VMM's own main function.
    pub(crate) started: u64,
    /// The launcher's message was received.
    pub(crate) received: u64,
    /// Guest memory exists and KVM knows it.
    pub(crate) memory: u64,
    /// Interrupt controller and devices exist.
    pub(crate) built: u64,
    /// Kernel, initramfs and boot tables are in guest memory, and the vCPUs exist.
    pub(crate) loaded: u64,
    /// The first vCPU is about to enter the guest.
    pub(crate) entered: u64,
    /// The guest no longer runs.
    pub(crate) ended: u64,
    /// The guest's time-stamp counter at `entered`: what guest init's `rdtsc` is compared with.
    pub(crate) entry_tsc: u64,
    /// Ticks of the guest's time-stamp counter per millisecond.
    pub(crate) tsc_khz: u64,
    /// The machine was restored; its kernel booted long before.
    pub(crate) restored: bool,
    /// Not a moment, but how long the process has worked on its jail, in all its threads.
    pub(crate) jail: u64,
}

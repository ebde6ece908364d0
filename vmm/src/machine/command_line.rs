//! The guest kernel's command line: fixed options, then one for each device. Nothing of an image ever reaches it.

use thiserror::Error;

use super::layout;
use crate::config::{Cpus, VmConfig};

/// Always: after a panic, and whenever the guest is done, end at once by the keyboard controller's reset line. Control
/// groups count no memory of the kernel's own, which is bounded by the machine.
const ALWAYS: &str = "reboot=k panic=-1 cgroup.memory=nokmem";
/// Without the log: emergencies alone, and those on the UART to the end. In this order: the UART begins with whatever the log
/// has at that moment.
const QUIET: &str = "loglevel=1 earlyprintk=serial,0x3f8,115200,keep";
/// With the log: the UART until the console device takes over.
const LOUD: &str = "ignore_loglevel earlyprintk=serial,0x3f8,115200 console=hvc0";
/// With the log of initcalls: not the UART, for each letter is an exit, and what an initcall says would be most of its time. The
/// log waits for the console, whole.
const INITCALLS: &str = "ignore_loglevel console=hvc0 log_buf_len=1M initcall_debug";
/// Waiting for other processors is interrupting them, instead of waiting for their next tick.
const SMP: &str = "rcupdate.rcu_expedited=1";
/// All devices reach all memory: no buffers need be set aside below 4 GiB.
const LARGE: &str = "swiotlb=noforce";

/// A command line under construction.
#[derive(Debug)]
pub(crate) struct CommandLine(String);

/// More options than a kernel takes.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("The kernel's command line has {0} bytes, more than {most}", most = layout::COMMAND_LINE_MOST)]
pub(crate) struct TooLong(usize);

impl CommandLine {
    /// The options for a guest of this shape, without devices. A kernel compares each with hundreds of names: none is here
    /// for beauty.
    pub(crate) fn new(config: &VmConfig) -> Self {
        let log = match (config.kernel_log, config.initcalls) {
            (false, _) => QUIET,
            (true, false) => LOUD,
            (true, true) => INITCALLS,
        };
        let mut options = vec![log, ALWAYS];
        if config.cpus != Cpus::ONE {
            options.push(SMP);
        }
        if config.memory.bytes() > layout::LOW_MEMORY_END {
            options.push(LARGE);
        }
        Self(options.join(" "))
    }

    /// Announces a virtio-mmio device.
    pub(crate) fn device(&mut self, window: u64, line: u8) {
        self.0
            .push_str(&format!(" virtio_mmio.device=4K@{window:#x}:{line}"));
    }

    /// The bytes a kernel reads, NUL included.
    pub(crate) fn finish(self) -> Result<Vec<u8>, TooLong> {
        if self.0.len() > layout::COMMAND_LINE_MOST {
            return Err(TooLong(self.0.len()));
        }
        let mut bytes = self.0.into_bytes();
        bytes.push(0);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;

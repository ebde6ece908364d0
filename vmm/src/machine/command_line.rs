//! The guest kernel's command line: fixed options, then one for each device. Nothing of an image ever reaches it.

use thiserror::Error;

use super::layout;

/// Always: end at once after a panic, by the keyboard controller's reset line.
/// `no_timer_check`: there is no PIT to test. `tsc=reliable`: no watchdog compares clocks that cannot drift apart.
const ALWAYS: &str = "reboot=k panic=-1 no_timer_check tsc=reliable random.trust_cpu=on";
/// Without the log: only emergencies, and those on the UART to the end.
const QUIET: &str = "quiet loglevel=1 earlyprintk=serial,0x3f8,115200,keep";
/// With the log: the UART until the console device takes over.
const LOUD: &str = "ignore_loglevel earlyprintk=serial,0x3f8,115200 console=hvc0";

/// A command line under construction.
#[derive(Debug)]
pub(crate) struct CommandLine(String);

/// More options than a kernel takes.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("The kernel's command line has {0} bytes, more than {most}", most = layout::COMMAND_LINE_MOST)]
pub(crate) struct TooLong(usize);

impl CommandLine {
    /// The options every guest gets.
    pub(crate) fn new(kernel_log: bool) -> Self {
        Self(format!(
            "{ALWAYS} {}",
            if kernel_log { LOUD } else { QUIET }
        ))
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

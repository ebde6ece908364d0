//! `run --timings`: when a run passed which point, as a table. Knows how long,
//! not why.

use std::fmt::Write as _;

use rustix::time::{ClockId, clock_gettime};

use crate::agent::Outcome;
use crate::failure::escaped;
use crate::machine::report::Report;

/// Moments of the launcher's life, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: u64,
    image: u64,
    exited: u64,
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Clock {
    /// The launcher has begun.
    pub(crate) fn start() -> Self {
        let start = now();
        Self {
            start,
            image: start,
            exited: start,
        }
    }

    /// The image is in the store and open.
    pub(crate) fn image(&mut self) {
        self.image = now();
    }

    /// The workload's end and all its output have arrived.
    pub(crate) fn exited(&mut self) {
        self.exited = now();
    }

    /// The table, with the virtual machine's part from its report.
    pub(crate) fn table(&self, report: &Report, outcome: &Outcome, memory: u64) -> String {
        let (vmm, counts) = (&report.timings, &report.counts);
        let [hello, started, ended] = outcome.ticks;
        let guest = |from: u64, to: u64| {
            u128::from(to.saturating_sub(from)) * 1_000_000 / u128::from(vmm.tsc_khz.max(1))
        };
        let host = |from: u64, to: u64| u128::from(to.saturating_sub(from));
        let in_guest = guest(vmm.entry_tsc, ended);
        // A restored machine has its kernel and its init behind it.
        let (load, hello, init) = match vmm.restored {
            true => (
                "restore",
                vmm.entry_tsc,
                "to the command's first instruction, in a machine from a template",
            ),
            false => ("load", hello, "to the command's first instruction"),
        };
        let phases = [
            ("image", host(self.start, self.image), "name to open image"),
            (
                "VMM start",
                host(self.image, vmm.received),
                "to the VMM process and its orders",
            ),
            (
                "memory",
                host(vmm.received, vmm.memory),
                "to guest memory known to KVM",
            ),
            (
                load,
                host(vmm.memory, vmm.loaded),
                match vmm.restored {
                    true => "to devices and processors as they were saved",
                    false => "to kernel and initramfs in it",
                },
            ),
            (
                "machine",
                host(vmm.loaded, vmm.entered),
                "to the first entry of the guest",
            ),
            (
                "kernel",
                guest(vmm.entry_tsc, hello),
                "to guest init's first instruction",
            ),
            ("init", guest(hello, started), init),
            ("workload", guest(started, ended), "to the command's end"),
            (
                "exit",
                host(vmm.entered, self.exited).saturating_sub(in_guest),
                "to its status and all output at the launcher",
            ),
            ("total", host(self.start, self.exited), ""),
            (
                "jail",
                u128::from(vmm.jail),
                "of it, for the namespaces, Landlock and filters of the VMM",
            ),
        ];
        let mut table = String::new();
        let had = |name: &str| !(vmm.restored && name == "kernel");
        for (name, nanoseconds, what) in phases.into_iter().filter(|(name, ..)| had(name)) {
            let (whole, part) = (nanoseconds / 1_000_000, nanoseconds / 1_000 % 1_000);
            let _ = writeln!(
                table,
                "{}",
                format!("{name:<16}{whole:>6}.{part:03} ms  {what}").trim_end()
            );
        }
        let _ = writeln!(
            table,
            "{:<16}{:>10}     port {}, mmio {}, interrupted {}, other {}",
            "exits",
            counts.exits(),
            counts.port,
            counts.mmio,
            counts.interrupted,
            counts.other
        );
        let _ = writeln!(table, "{:<16}{:>10}", "kicks", counts.kicks);
        let _ = writeln!(
            table,
            "{:<16}{:>10} KiB of {} KiB",
            "memory touched",
            counts.memory_touched >> 10,
            memory >> 10
        );
        for (device, option) in &counts.unused_devices {
            let _ = writeln!(
                table,
                "unused device   {device}: the guest's kernel lacks {option}"
            );
        }
        for remark in &counts.remarks {
            let _ = writeln!(table, "remark          {}", escaped(remark));
        }
        table
    }
}

//! What a machine costs in memory while its command sleeps, and what its files weigh.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::bench::Target;
use tests::run::program;

use crate::record::Record;
use crate::site::{self, PLAIN, Site};

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let private = private_memory(site.run(&PLAIN, &["/bin/busybox", "sleep", "60"]))?;
    record.add(
        "private memory of the VMM process without the guest's",
        "hull",
        "MiB",
        vec![private],
        Some(Target::AtMost(5.0)),
    );
    let library = site::library()?;
    for (what, file, most) in [
        ("the binary", program(), 6.0),
        ("kernel for one processor", library.join("vmlinux"), 8.0),
        (
            "kernel for more processors",
            library.join("vmlinux-smp"),
            8.0,
        ),
    ] {
        let kilobytes = u32::try_from(std::fs::metadata(file)?.len() / 1000)?;
        let megabytes = f64::from(kilobytes) / 1000.0;
        record.add(
            what,
            "hull",
            "MB",
            vec![megabytes],
            Some(Target::AtMost(most)),
        );
    }
    Ok(())
}

/// Private resident memory of a run's VMM in MiB, without the mappings as large as the guest.
fn private_memory(mut command: Command) -> Result<f64> {
    let mut launcher = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let result = settled_private_memory(launcher.id());
    launcher.kill()?;
    launcher.wait()?;
    result
}

fn settled_private_memory(launcher: u32) -> Result<f64> {
    // The command sleeps by then: on the lab's clock every boot takes less.
    std::thread::sleep(Duration::from_secs(2));
    let vmm = child(&child(&launcher.to_string())?)?;
    let maps = std::fs::read_to_string(format!("/proc/{vmm}/smaps"))?;
    let (mut guest, mut kibibytes, mut found_guest) = (false, 0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let value: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match name {
            // The guest has 256 MiB, less a hole or two.
            "Size:" => guest = value >= 128 << 10,
            "Private_Clean:" | "Private_Dirty:" if !guest => kibibytes += value,
            _ => {}
        }
        found_guest |= guest;
    }
    if !found_guest {
        bail!("The VMM maps no guest memory:\n{maps}");
    }
    Ok(mebibytes(kibibytes << 10))
}

/// A process's only child: the launcher's is the supervisor, whose is the VMM.
fn child(process: &str) -> Result<String> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let first = children.split_whitespace().next();
    Ok(first.context("A process has no child")?.to_owned())
}

fn mebibytes(bytes: u64) -> f64 {
    let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    f64::from(kibibytes) / 1024.0
}

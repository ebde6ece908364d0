//! A run of `true` from start to end, and its phases.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tests::bench::Target;

use crate::measure::{self, RUNS, settle};
use crate::peers;
use crate::record::Record;
use crate::site::{PLAIN, Site};

/// The command.
pub(crate) const TRUE: [&str; 2] = ["/bin/busybox", "true"];

const START: &str = "`true` from start to end";

/// Boots, beside what others do for the same or less.
pub(crate) fn cold(site: &Site, record: &mut Record) -> Result<()> {
    let target = Some(Target::AtMost(35.0));
    for runtime in site.runtimes(&["crun", "runc"]) {
        let samples = measure::milliseconds(|| site.container(runtime, &TRUE))?;
        let target = target.filter(|_| runtime == "hull");
        record.add(START, runtime, "lab ms", samples, target);
    }
    let busybox = site.place().join("root/bin/busybox");
    let samples = measure::milliseconds(|| {
        let mut command = Command::new(&busybox);
        command.arg("true");
        Ok(command)
    })?;
    record.add(START, "process", "lab ms", samples, None);
    let samples = measure::milliseconds(|| Ok(site.run(&["--start", "cold"], &TRUE)))?;
    let name = "`true` from start to end, with a network card";
    record.add(name, "hull", "lab ms", samples, target);
    if site.compares("qemu") {
        let samples = measure::milliseconds(|| Ok(peers::microvm(site.place())))?;
        let name = "the same kernel to an init that reboots at once";
        record.add(name, "qemu", "lab ms", samples, None);
    }
    Ok(())
}

/// From a template.
pub(crate) fn warm(site: &Site, record: &mut Record) -> Result<()> {
    let samples = measure::milliseconds(|| Ok(site.run(&["--start", "warm"], &TRUE)))?;
    let name = "`true` from start to end, from a template";
    record.add(name, "hull", "lab ms", samples, Some(Target::AtMost(8.0)));
    Ok(())
}

/// What `--timings` tells of a boot.
pub(crate) fn phases(site: &Site, record: &mut Record) -> Result<()> {
    let mut told = Vec::new();
    for _ in 0..RUNS {
        let mut command = site.run(&[&["--timings"][..], &PLAIN].concat(), &TRUE);
        settle();
        let output = command.stdin(Stdio::null()).output()?;
        measure::check(&command, &output)?;
        told.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let samples = |rows: &[&str]| {
        let sum = |timings: &String| rows.iter().map(|row| figure(timings, row)).sum();
        told.iter().map(sum).collect::<Result<Vec<f64>>>()
    };
    let kernel = Some(Target::AtMost(15.0));
    let before = ["image", "VMM start", "memory", "load", "machine"];
    for (name, rows, target) in [
        ("start to the guest's first instruction", &before[..], None),
        (
            "the guest's first instruction to guest init",
            &["kernel"],
            kernel,
        ),
        ("guest init to the command", &["init"], None),
        ("the command", &["workload"], None),
        (
            "the command's end to its status at the launcher",
            &["exit"],
            None,
        ),
    ] {
        record.add(name, "hull", "lab ms", samples(rows)?, target);
    }
    // The counts are those of the run with the fewest exits, which is the figure.
    let (least, exits) = (samples(&["exits"])?, Some(Target::AtMost(300.0)));
    let fewest = least
        .iter()
        .zip(&told)
        .min_by(|one, other| one.0.total_cmp(other.0));
    let counts = fewest.map(|(_, timings)| tests::timings::counts(timings));
    record
        .add("exits to user space", "hull", "exits", least, exits)
        .counts = counts.unwrap_or_default();
    let mebibytes = samples(&["memory touched"])?
        .into_iter()
        .map(|kibibytes| kibibytes / 1024.0);
    record.add(
        "guest memory touched",
        "hull",
        "MiB",
        mebibytes.collect(),
        Some(Target::AtMost(20.0)),
    );
    Ok(())
}

/// The figure of a row of `--timings`.
fn figure(timings: &str, row: &str) -> Result<f64> {
    tests::timings::figure(timings, row)
        .with_context(|| format!("--timings says nothing of {row}:\n{timings}"))
}

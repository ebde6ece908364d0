//! A run of `true` from start to end, and its phases.

use std::process::Command;

use anyhow::{Context, Result};
use tests::bench::Target;

use crate::record::Record;
use crate::site::{PLAIN, Site};
use crate::{measure, peers};

/// The command.
pub(crate) const TRUE: [&str; 2] = ["/bin/busybox", "true"];

/// From a template, like [`PLAIN`].
pub(crate) const WARM: [&str; 4] = ["--start", "warm", "--network", "none"];

const START: &str = "`true` from start to end";

/// Boots, beside what others do for the same or less.
pub(crate) fn cold(site: &Site, record: &mut Record) -> Result<()> {
    let target = Some(Target::AtMost(35.0));
    measure::compared(site, record, START, &["crun", "runc"], target, &TRUE)?;
    let busybox = site.place().join("root/bin/busybox");
    measure::timed(record, START, "process", None, || {
        let mut command = Command::new(&busybox);
        command.arg("true");
        Ok(command)
    })?;
    let name = "`true` from start to end, with a network card";
    let networked = || Ok(site.run(&["--start", "cold"], &TRUE));
    measure::timed(record, name, "hull", target, networked)?;
    if site.compares("qemu")? {
        let name = "the same kernel to an init that reboots at once";
        let boot = || Ok(peers::microvm(site.place()));
        measure::timed(record, name, "qemu", None, boot)?;
    }
    with_disk(
        site,
        record,
        "`true` from start to end, with a disk",
        &PLAIN,
    )
}

/// From a template.
pub(crate) fn warm(site: &Site, record: &mut Record) -> Result<()> {
    let name = "`true` from start to end, from a template";
    let target = Some(Target::AtMost(8.0));
    measure::timed(record, name, "hull", target, || Ok(site.run(&WARM, &TRUE)))?;
    let told = told(site, record, &WARM)?;
    let name = "from a template, start to the command's first instruction";
    let rows = ["image", "VMM start", "memory", "restore", "machine", "init"];
    let (samples, target) = (samples(&told, &rows)?, Some(Target::AtMost(4.0)));
    record.time(name, "hull", samples, target);
    let name = "`true` from start to end, from a template, with a disk";
    with_disk(site, record, name, &WARM)
}

/// A run whose container stays; all are removed after the last.
fn with_disk(site: &Site, record: &mut Record, name: &str, options: &[&str]) -> Result<()> {
    let mut kept: Vec<String> = Vec::new();
    let samples = measure::milliseconds(record.clock(), || {
        let container = format!("bench-disk-{}", kept.len());
        let command = site.run_kept(&[options, &["--name", &container]].concat(), &TRUE);
        kept.push(container);
        Ok(command)
    })?;
    measure::run(site.hull(&["rm"]).args(&kept))?;
    record.time(name, "hull", samples, None);
    Ok(())
}

/// What `--timings` tells of a boot.
pub(crate) fn phases(site: &Site, record: &mut Record) -> Result<()> {
    let name = "`true` from start to end, of which these are the phases";
    measure::timed(record, name, "hull", None, || Ok(site.run(&PLAIN, &TRUE)))?;
    let told = told(site, record, &PLAIN)?;
    let samples = |rows: &[&str]| samples(&told, rows);
    let kernel = Some(Target::AtMost(15.0));
    let before = ["image", "VMM start", "memory", "load", "machine"];
    let first = [&before[..], &["kernel", "init"]].concat();
    for (name, rows, target) in [
        ("start to the guest's first instruction", &before[..], None),
        (
            "the guest's first instruction to guest init",
            &["kernel"],
            kernel,
        ),
        ("guest init to the command", &["init"], None),
        ("start to the command's first instruction", &first, None),
        ("the command", &["workload"], None),
        (
            "the command's end to its status at the launcher",
            &["exit"],
            None,
        ),
    ] {
        record.time(name, "hull", samples(rows)?, target);
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
    jail(site, record)
}

/// What of a start the VMM's jail is, but for the PID namespace that the process is born in.
fn jail(site: &Site, record: &mut Record) -> Result<()> {
    for (name, options) in [
        ("the jail's part of a start", &PLAIN[..]),
        (
            "the jail's part of a start, with a network card",
            &["--start", "cold"],
        ),
    ] {
        let samples = samples(&told(site, record, options)?, &["jail"])?;
        record.time(name, "hull", samples, Some(Target::AtMost(1.5)));
    }
    Ok(())
}

/// What `--timings` says of some runs with these options.
fn told(site: &Site, record: &Record, options: &[&str]) -> Result<Vec<String>> {
    let options = [&["--timings"][..], options].concat();
    let run = |_| Ok(measure::run(&mut site.run(&options, &TRUE))?.stderr);
    (0..record.clock().runs()).map(run).collect()
}

/// What these rows of it are together, for each run.
fn samples(told: &[String], rows: &[&str]) -> Result<Vec<f64>> {
    let sum = |timings: &String| rows.iter().map(|row| figure(timings, row)).sum();
    told.iter().map(sum).collect()
}

/// The figure of a row of `--timings`.
pub(crate) fn figure(timings: &str, row: &str) -> Result<f64> {
    tests::timings::figure(timings, row)
        .with_context(|| format!("--timings says nothing of {row}:\n{timings}"))
}

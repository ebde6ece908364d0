//! Runs that begin at once, until the last has ended.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::counts;
use crate::measure::settle;
use crate::record::Record;
use crate::site::Site;
use crate::start::{TRUE, WARM};

/// Rounds that count; one before them does not.
const ROUNDS: usize = 2;

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    for count in [1, 10, 50, 100] {
        let name = format!("`true` {count} times at once");
        for runtime in site.runtimes(&["crun"]) {
            rounds(record, &name, runtime, count, || {
                site.container(runtime, &TRUE)
            })?;
        }
        let name = format!("{name}, from a template");
        rounds(record, &name, "hull", count, || Ok(site.run(&WARM, &TRUE)))?;
    }
    Ok(())
}

fn rounds(
    record: &mut Record,
    name: &str,
    runtime: &str,
    count: usize,
    command: impl Fn() -> Result<Command>,
) -> Result<()> {
    let mut samples = Vec::new();
    for round in 0..=ROUNDS {
        settle();
        let took = at_once(count, &command)?;
        if round > 0 {
            samples.push(took);
        }
    }
    let counts = counts::of(record.clock(), || at_once(count, &command).map(drop))?;
    record.time(name, runtime, samples, None).counts = counts;
    Ok(())
}

/// Milliseconds until the last has ended.
fn at_once(count: usize, command: &impl Fn() -> Result<Command>) -> Result<f64> {
    let commands: Result<Vec<Command>> = (0..count).map(|_| command()).collect();
    let start = Instant::now();
    let children: Result<Vec<Child>> = commands?
        .iter_mut()
        .map(|command| {
            command.stdin(Stdio::null()).stdout(Stdio::null());
            Ok(command.spawn()?)
        })
        .collect();
    for mut child in children? {
        let status = child.wait()?;
        ensure!(status.success(), "One of {count} ended with {status}");
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

//! Runs that begin at once, until the last has ended.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::measure::{TRACED, once, settle, several};
use crate::record::Record;
use crate::site::Site;
use crate::start::{TRUE, WARM};

/// How many. Those with few come first, and bring into memory what those with many need.
const COUNTS: [usize; 4] = [1, 10, 50, 100];

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let runtimes = site.runtimes(&["crun"])?;
    for count in COUNTS {
        let name = format!("`true` {count} times at once");
        for runtime in &runtimes {
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
    if count == 1 {
        at_once(count, &command)?;
    }
    if count <= TRACED {
        return several(record, name, runtime, None, 2, || at_once(count, &command));
    }
    once(record, name, runtime, None, || at_once(count, &command))
}

/// Milliseconds until the last has ended.
fn at_once(count: usize, command: &impl Fn() -> Result<Command>) -> Result<f64> {
    let commands: Result<Vec<Command>> = (0..count).map(|_| command()).collect();
    settle();
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

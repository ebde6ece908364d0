//! Runs that begin at once, until the last has ended.

use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::measure::settle;
use crate::record::Record;
use crate::site::Site;
use crate::start::TRUE;

/// Rounds before the first that counts.
const WARM_UPS: usize = 1;
/// Rounds that count.
const ROUNDS: usize = 2;

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    for count in [1, 10] {
        for runtime in site.runtimes(&["crun"]) {
            let mut samples = Vec::new();
            for round in 0..WARM_UPS + ROUNDS {
                settle();
                let took = at_once(site, runtime, count)?;
                if round >= WARM_UPS {
                    samples.push(took);
                }
            }
            let name = format!("`true` {count} times at once");
            record.add(&name, runtime, "lab ms", samples, None);
        }
    }
    Ok(())
}

/// Milliseconds until the last has ended.
fn at_once(site: &Site, runtime: &str, count: usize) -> Result<f64> {
    let start = Instant::now();
    let children: Result<Vec<Child>> = (0..count)
        .map(|_| {
            let mut command = site.container(runtime, &TRUE)?;
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

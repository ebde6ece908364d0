//! The same work in hull and in a container of the host's own kernel: what a machine costs once it runs. One static program
//! (`work/main.rs`) does it in both, and says what each piece took on the clock that it finds; so neither start nor end
//! of a container is in it.

use anyhow::{Context, Result};

use crate::record::Record;
use crate::site::Site;
use crate::{counts, measure};

/// Who is compared. runc gives the work the same kernel as crun: one of them is enough.
const PEERS: [&str; 1] = ["crun"];

/// Samples of each piece of work, in its order.
pub(crate) type Pieces = Vec<(String, Vec<f64>)>;

/// Measures the works of a scenario.
pub(crate) fn measure(scenario: &str, site: &Site, record: &mut Record) -> Result<()> {
    let mut all = Vec::new();
    for runtime in site.runtimes(&PEERS)? {
        let command = || site.furnished(runtime, &["/work", scenario]);
        let (mut pieces, mut whole) = (Pieces::new(), Vec::new());
        // The first, which pulls programs into memory, does not count.
        for container in 0..=record.clock().containers() {
            let run = measure::run(&mut command()?)?;
            if container > 0 {
                add(&mut pieces, &run.stdout)?;
                whole.push(run.milliseconds);
            }
        }
        let counts = counts::of(record.clock(), || measure::run(&mut command()?).map(drop))?;
        all.push((runtime, pieces, whole, counts));
    }
    let names: Vec<String> = all
        .first()
        .map(|(_, pieces, ..)| pieces.iter().map(|(name, _)| name.clone()).collect())
        .unwrap_or_default();
    for name in &names {
        for (runtime, pieces, ..) in &all {
            let same = pieces.iter().find(|(other, _)| other == name);
            let (_, samples) = same.with_context(|| format!("{runtime} did not {name}"))?;
            record.time(name, runtime, samples.clone(), None);
        }
    }
    for (runtime, _, whole, counts) in all {
        let name = "the container with all of this work";
        record.time(name, runtime, whole, None).counts = counts;
    }
    Ok(())
}

/// Adds a container's samples: lines of nanoseconds and a name.
pub(crate) fn add(pieces: &mut Pieces, said: &str) -> Result<()> {
    for line in said.lines() {
        let (nanoseconds, name) = line.split_once(' ').context("A line without a name")?;
        let milliseconds = nanoseconds.parse::<f64>()? / 1e6;
        match pieces.iter_mut().find(|(other, _)| other == name) {
            Some((_, samples)) => samples.push(milliseconds),
            None => pieces.push((name.to_owned(), vec![milliseconds])),
        }
    }
    Ok(())
}

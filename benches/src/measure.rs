//! Times programs from before their start to after their end. Knows none of them.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::counts;
use crate::record::{Clock, Record};
use crate::site::Site;
use tests::bench::Target;

/// Runs before the first that counts: they pull programs and files into memory.
const WARM_UPS: usize = 2;

/// How many machines at once are run once more for all that can be counted: a hundred have no time to spare for it.
pub(crate) const TRACED: usize = 10;

/// A program's run that went well.
pub(crate) struct Run {
    /// From before its start to after its end.
    pub(crate) milliseconds: f64,
    /// What it said on standard output.
    pub(crate) stdout: String,
    /// And on standard error.
    pub(crate) stderr: String,
}

/// Runs a program that must succeed.
///
/// What it says goes to files: the end of a pipe would only be seen when all who hold it are gone, which for a virtual machine
/// is later than the end of the program that was started.
pub(crate) fn run(command: &mut Command) -> Result<Run> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    settle();
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("{command:?} does not start"))?;
    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    let output = Output {
        status,
        stdout: all(&mut stdout)?,
        stderr: all(&mut stderr)?,
    };
    check(command, &output)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Run {
        milliseconds,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

fn all(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How long a program that must succeed takes, run by run, in milliseconds.
pub(crate) fn milliseconds(
    clock: Clock,
    mut command: impl FnMut() -> Result<Command>,
) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for round in 0..WARM_UPS + clock.runs() {
        let run = run(&mut command()?)?;
        if round >= WARM_UPS {
            samples.push(run.milliseconds);
        }
    }
    Ok(samples)
}

/// Adds a row for how long a program takes, with what is counted in one more run of it.
pub(crate) fn timed(
    record: &mut Record,
    name: &str,
    runtime: &str,
    target: Option<Target>,
    mut command: impl FnMut() -> Result<Command>,
) -> Result<()> {
    let samples = milliseconds(record.clock(), &mut command)?;
    let counts = counts::of(record.clock(), || run(&mut command()?).map(drop))?;
    record.time(name, runtime, samples, target).counts = counts;
    Ok(())
}

/// The same for what measures itself, in milliseconds. So many runs count besides the one that is counted too.
pub(crate) fn several(
    record: &mut Record,
    name: &str,
    runtime: &str,
    target: Option<Target>,
    more: usize,
    mut run: impl FnMut() -> Result<f64>,
) -> Result<()> {
    let mut samples = (0..more).map(|_| run()).collect::<Result<Vec<f64>>>()?;
    let counts = counts::of(record.clock(), || {
        samples.push(run()?);
        Ok(())
    })?;
    // In the last the kernel counts, which takes time.
    samples.truncate(more + 1);
    record.time(name, runtime, samples, target).counts = counts;
    Ok(())
}

/// One run, without what the kernel only counts by spending time of its own: for more than [`TRACED`].
pub(crate) fn once(
    record: &mut Record,
    name: &str,
    runtime: &str,
    target: Option<Target>,
    mut run: impl FnMut() -> Result<f64>,
) -> Result<()> {
    let mut samples = Vec::new();
    let counts = counts::of_processes(record.clock(), || {
        samples.push(run()?);
        Ok(())
    })?;
    record.time(name, runtime, samples, target).counts = counts;
    Ok(())
}

/// [`timed`] for a command in a container of each runtime that is compared.
pub(crate) fn compared(
    site: &Site,
    record: &mut Record,
    name: &str,
    peers: &[&str],
    target: Option<Target>,
    words: &[&str],
) -> Result<()> {
    for runtime in site.runtimes(peers)? {
        let target = target.filter(|_| runtime == "hull");
        timed(record, name, runtime, target, || {
            site.container(runtime, words)
        })?;
    }
    Ok(())
}

/// Lets what the last run left behind be over: a virtual machine is taken apart after its run has ended.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Fails with what the program said, unless it ended well.
pub(crate) fn check(command: &Command, output: &Output) -> Result<()> {
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

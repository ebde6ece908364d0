//! Times programs from before their start to after their end. Knows none of them.

use std::io::{Read, Seek};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs before the first that counts: they pull programs and files into memory.
const WARM_UPS: usize = 2;
/// Runs that count; the shortest is the one that waits for nobody.
pub(crate) const RUNS: usize = 7;

/// How long a program that must succeed takes, run by run, in milliseconds.
///
/// What it says goes to a file: the end of a pipe would only be seen when all who hold it are gone, which for a virtual machine
/// is later than the end of the program that was started.
pub(crate) fn milliseconds(mut command: impl FnMut() -> Result<Command>) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for run in 0..WARM_UPS + RUNS {
        let mut command = command()?;
        let mut said = tempfile::tempfile()?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?);
        settle();
        let start = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("{command:?} does not start"))?;
        let took = start.elapsed().as_secs_f64() * 1000.0;
        if !status.success() {
            let mut stderr = Vec::new();
            said.rewind()?;
            said.read_to_end(&mut stderr)?;
            check(
                &command,
                &Output {
                    status,
                    stdout: Vec::new(),
                    stderr,
                },
            )?;
        }
        if run >= WARM_UPS {
            samples.push(took);
        }
    }
    Ok(samples)
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

//! A second go for tests that failed beside others: on a machine that others use too, a guest may have been given no processor for longer
//! than any limit allows for. Knows how the standard library's test programs print, and no test.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::progress;

#[cfg(test)]
mod tests;

/// More that fail at once are no accident.
const MOST: usize = 3;
/// What a test program ends with when tests have failed, and nothing else was wrong.
const FAILED: i32 = 101;

/// What is typed after the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A test program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the program; when a few of its tests have failed, runs these once more, one by one.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (program, words) = args.command.split_first().context("No test program")?;
    let code = twice(|failed| {
        let mut command = Command::new(program);
        match failed {
            [] => command.args(words),
            _ => command.args(["--exact", "--test-threads=1"]).args(failed),
        };
        command
    })?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The exit code of the command for all tests, or of the one for these.
fn twice(command: impl Fn(&[String]) -> Command) -> Result<i32> {
    let (code, failed) = go(&mut command(&[]))?;
    if code != FAILED || failed.is_empty() || failed.len() > MOST {
        return Ok(code);
    }
    let names = failed.join(", ");
    progress::note(&format!("Failed beside others, going once more: {names}"));
    let (code, _) = go(&mut command(&failed))?;
    if code == 0 {
        progress::note(&format!("UNSTEADY, passed at the second go only: {names}"));
    }
    Ok(code)
}

/// Runs a test program and shows what it prints; gives its exit code and the tests that failed.
fn go(command: &mut Command) -> Result<(i32, Vec<String>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} does not start"))?;
    let mut failures = Failures::default();
    for line in BufReader::new(child.stdout.take().context("No pipe")?).split(b'\n') {
        let line = line?;
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        failures.line(&String::from_utf8_lossy(&line));
    }
    // A program that a signal ended has failed otherwise than by its tests.
    let code = child.wait()?.code().unwrap_or(1);
    Ok((code, failures.names))
}

/// Finds the last list of failed tests in what a test program prints.
#[derive(Debug, Default)]
struct Failures {
    names: Vec<String>,
    within: bool,
}

impl Failures {
    fn line(&mut self, line: &str) {
        if line == "failures:" {
            // Before it was what they printed.
            self.names.clear();
            self.within = true;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.within) {
            self.names.push(name.to_owned());
        } else {
            self.within = self.within && line.is_empty() && self.names.is_empty();
        }
    }
}

//! Runs another program to its end, bounded in time and output, in a process group of its own. Knows not what for.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Gives the program `input`, and returns how it ended and at most `limit` bytes of what it printed. Its errors are not
/// shown.
///
/// # Errors
/// When it cannot be started; [`io::ErrorKind::TimedOut`] when it takes longer than `patience`, and is killed.
pub(crate) fn run(
    command: &mut Command,
    input: &[u8],
    limit: u64,
    patience: Duration,
) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let outcome = converse(&mut child, input, limit, patience);
    if outcome.is_err() {
        // Its whole group: it may be a script that waits for another program.
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait();
    }
    outcome
}

fn converse(
    child: &mut Child,
    input: &[u8],
    limit: u64,
    patience: Duration,
) -> io::Result<(ExitStatus, Vec<u8>)> {
    let deadline = Instant::now() + patience;
    let (sender, answers) = mpsc::channel();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let input = input.to_vec();
    // A pipe can block for ever: its thread is left to itself when the time is over.
    std::thread::Builder::new()
        .name("program".to_owned())
        .spawn(move || {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input says so by its status.
                let _ = stdin.write_all(&input);
            }
            let mut answer = Vec::new();
            let read = match stdout {
                Some(stdout) => stdout.take(limit).read_to_end(&mut answer),
                None => Ok(0),
            };
            let _ = sender.send(read.map(|_| answer));
        })?;
    let answer = answers
        .recv_timeout(patience)
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // The pipe is closed; the end is near, or the program hangs without it.
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, answer));
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

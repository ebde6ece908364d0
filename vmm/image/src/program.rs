//! Runs another program to its end, bounded in time and output, in a process group of its own. Knows not what for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Most that is kept of what a program complains about, in bytes.
const COMPLAINT_MAX: u64 = 8 * 1024;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it printed, as far as it was wanted.
    pub(crate) answer: Vec<u8>,
    /// What it said on standard error; as it came.
    pub(crate) complaint: Vec<u8>,
}

/// Gives the program `input`, and returns how it ended and at most `limit` bytes of what it printed.
///
/// # Errors
/// When it cannot be started; [`io::ErrorKind::TimedOut`] when it takes longer than `patience`, and is killed.
pub(crate) fn run(
    command: &mut Command,
    input: &[u8],
    limit: u64,
    patience: Duration,
) -> io::Result<Ended> {
    start(command.stdout(Stdio::piped()), input, limit, patience)
}

/// Lets the program print into a file.
///
/// # Errors
/// As for [`run`].
pub(crate) fn run_into(command: &mut Command, file: File, patience: Duration) -> io::Result<Ended> {
    start(command.stdout(file), b"", 0, patience)
}

fn start(command: &mut Command, input: &[u8], limit: u64, patience: Duration) -> io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
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

fn converse(child: &mut Child, input: &[u8], limit: u64, patience: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + patience;
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A pipe can block for ever: its thread is left to itself when the time is over.
    Builder::new().name("program".to_owned()).spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input says so by its status.
            let _ = stdin.write_all(&input);
        }
    })?;
    let answers = collect(child.stdout.take(), limit)?;
    let complaints = collect(child.stderr.take(), COMPLAINT_MAX)?;
    let answer = within(&answers, deadline)??;
    // The pipe is closed; the end is near, or the program hangs without it.
    let mut pause = Duration::from_micros(200);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    // A program that lives on behind its parent may keep this open.
    let soon = deadline.min(Instant::now() + Duration::from_secs(1));
    let complaint = within(&complaints, soon)
        .and_then(|read| read)
        .unwrap_or_default();
    Ok(Ended {
        status,
        answer,
        complaint,
    })
}

type Collected = mpsc::Receiver<io::Result<Vec<u8>>>;

/// Reads at most `limit` bytes on a thread of its own.
fn collect(stream: Option<impl Read + Send + 'static>, limit: u64) -> io::Result<Collected> {
    let (sender, receiver) = mpsc::channel();
    Builder::new().name("program".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        let read = match stream {
            Some(stream) => stream.take(limit).read_to_end(&mut bytes),
            None => Ok(0),
        };
        // Nobody waits for it when the time is over.
        let _ = sender.send(read.map(|_| bytes));
    })?;
    Ok(receiver)
}

fn within(from: &Collected, deadline: Instant) -> io::Result<io::Result<Vec<u8>>> {
    from.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .map_err(|_| io::ErrorKind::TimedOut.into())
}

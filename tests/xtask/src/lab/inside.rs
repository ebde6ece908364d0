//! The agent: the lab's process 1 once the outer host's files are in place. It runs the one command, carries its three
//! streams through virtio-serial ports and reports how it ended. Knows nothing of QEMU; see `stdio.rs` for the other end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, eventfd, poll};
use rustix::process::{WaitOptions, WaitStatus};
use rustix::pty::OpenptFlags;

use super::kvm;
use super::parcel::Parcel;
use super::stdio::{CONTROL, STDERR, STDIN, STDOUT};
use crate::sys;

/// Runs as process 1 of the lab; never returns where all goes well, for the launcher then ends the machine.
pub(crate) fn run() -> Result<ExitCode> {
    let mut control = port(CONTROL)?;
    let report = match serve(&control) {
        Ok(ended) => ended,
        Err(error) => format!("failed {}\n", format!("{error:#}").replace('\n', " ")),
    };
    rustix::fs::sync();
    control.write_all(report.as_bytes())?;
    // The launcher ends the machine when it has read the report. Should it be gone, the machine ends by itself.
    thread::sleep(Duration::from_secs(60));
    Ok(ExitCode::SUCCESS)
}

/// Runs the command and returns the report of its end.
fn serve(mut control: &File) -> Result<String> {
    let parcel =
        Parcel::decode(&std::fs::read("/run/lab/parcel").context("The parcel cannot be read")?)?;
    std::env::set_current_dir(&parcel.directory).with_context(|| {
        format!(
            "{} does not exist inside the lab",
            parcel.directory.display()
        )
    })?;
    // One processor does not run what it is changing.
    let several = thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
    let _kept = several.then(kvm::keep_in_use).transpose()?;
    let (program, arguments) = parcel
        .command
        .split_first()
        .context("There is no command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(parcel.environment.iter().map(|(name, value)| (name, value)));
    command.env("HULL_LAB", "1");
    let terminal = if parcel.terminal {
        Some(open_terminal(&mut command)?)
    } else {
        None
    };
    if terminal.is_none() {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
    let spawned = command.spawn();
    // The command holds the terminal's other end: ours has to go for the end to be seen.
    drop(command);
    control.write_all(b"ready\n")?;
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return cannot_start(program, &error),
    };
    let done = Arc::new(eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?);
    let pumps = start_pumps(control, &mut child, terminal, &done)?;
    let status = wait_for(&child)?;
    rustix::io::write(&*done, &1_u64.to_ne_bytes())?;
    let mut carried = Vec::new();
    for pump in pumps {
        carried.push(
            pump.join()
                .map_err(|_| anyhow::anyhow!("A stream's thread failed"))?,
        );
    }
    let bytes = |index: usize| carried.get(index).copied().unwrap_or(0);
    let code = status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0));
    Ok(format!("exit {code} {} {}\n", bytes(0), bytes(1)))
}

/// Says why the program did not start, as a shell would: on standard error and with its codes.
fn cannot_start(program: &OsStr, error: &std::io::Error) -> Result<String> {
    let code = if error.kind() == ErrorKind::NotFound {
        127
    } else {
        126
    };
    let text = format!("lab: {}: {error}\n", program.to_string_lossy());
    port(STDERR)?.write_all(text.as_bytes())?;
    Ok(format!("exit {code} 0 {}\n", text.len()))
}

/// The threads that carry the streams; those of the output come first and in order.
fn start_pumps(
    control: &File,
    child: &mut Child,
    terminal: Option<File>,
    done: &Arc<OwnedFd>,
) -> Result<Vec<JoinHandle<u64>>> {
    let mut pumps = Vec::new();
    let input: File = if let Some(terminal) = terminal {
        let resized = terminal.try_clone()?;
        let commands = control.try_clone()?;
        thread::spawn(move || resize(&commands, &resized));
        pumps.push(carry(terminal.try_clone()?, port(STDOUT)?, done));
        terminal
    } else {
        let stdout = OwnedFd::from(child.stdout.take().context("No standard output")?);
        let stderr = OwnedFd::from(child.stderr.take().context("No standard error")?);
        pumps.push(carry(stdout.into(), port(STDOUT)?, done));
        pumps.push(carry(stderr.into(), port(STDERR)?, done));
        OwnedFd::from(child.stdin.take().context("No standard input")?).into()
    };
    let from = port(STDIN)?;
    thread::spawn(move || feed(from, input));
    Ok(pumps)
}

/// Gives the command a terminal and returns our end of it.
fn open_terminal(command: &mut Command) -> Result<File> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let theirs = File::options()
        .read(true)
        .write(true)
        .open(Path::new(name.to_str()?))?;
    command
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    sys::with_terminal(command);
    Ok(ours.into())
}

/// Carries one stream from the command to the launcher, until its end or until the command has ended and no more is there.
fn carry(mut from: File, mut to: File, done: &Arc<OwnedFd>) -> JoinHandle<u64> {
    let done = Arc::clone(done);
    thread::spawn(move || {
        let mut carried = 0;
        let mut buffer = vec![0; 64 << 10];
        while more_to_read(&from, &done) {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A terminal whose last user has gone answers with EIO.
                Err(_) => break,
            };
            if buffer
                .get(..count)
                .is_none_or(|bytes| to.write_all(bytes).is_err())
            {
                break;
            }
            carried += count as u64;
        }
        carried
    })
}

/// Waits for something to read. False when the command has ended and left nothing more.
fn more_to_read(stream: &File, done: &OwnedFd) -> bool {
    loop {
        let mut fds = [
            PollFd::new(stream, PollFlags::IN),
            PollFd::from_borrowed_fd(done.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return !fds[0].revents().is_empty(),
        }
    }
}

/// Carries the launcher's standard input to the command: blocks with their length before them, an empty one being its end.
/// A terminal has no end of input: there the empty block becomes Ctrl-D.
fn feed(mut from: File, to: File) {
    let terminal = rustix::termios::isatty(&to);
    let mut to = Some(to);
    let mut block = Vec::new();
    loop {
        let mut length = [0; 4];
        if from.read_exact(&mut length).is_err() {
            return;
        }
        block.resize(u32::from_le_bytes(length) as usize, 0);
        if from.read_exact(&mut block).is_err() {
            return;
        }
        if block.is_empty() {
            if let (true, Some(terminal)) = (terminal, &mut to) {
                let _ = terminal.write_all(&[4]);
            }
            to = None;
        }
        // When the command has closed its end, the rest is read and dropped, as a shell's pipe would refuse it.
        if to.as_mut().is_some_and(|to| to.write_all(&block).is_err()) {
            to = None;
        }
    }
}

/// Follows the size of the launcher's terminal.
fn resize(control: &File, terminal: &File) {
    for line in BufReader::new(control).lines().map_while(Result::ok) {
        let mut words = line
            .split_whitespace()
            .skip(1)
            .map(|word| word.parse().unwrap_or(0));
        let (Some(rows), Some(columns)) = (words.next(), words.next()) else {
            continue;
        };
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let _ = rustix::termios::tcsetwinsize(terminal, size);
    }
}

/// Waits for the command's end and, being process 1, collects every orphan on the way.
fn wait_for(child: &Child) -> Result<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((process, status)))
                if process.as_raw_nonzero().get().cast_unsigned() == child.id() =>
            {
                return Ok(status);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("Waiting for the command failed"),
        }
    }
}

/// Opens one of the lab's ports; the kernel may still be finding it.
fn port(number: u32) -> Result<File> {
    let path = format!("/dev/vport0p{number}");
    for _ in 0..5000 {
        match File::options()
            .read(true)
            .write(number == CONTROL || number != STDIN)
            .open(&path)
        {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                thread::sleep(Duration::from_millis(2))
            }
            other => return other.with_context(|| format!("{path} cannot be opened")),
        }
    }
    anyhow::bail!("{path} does not appear")
}

//! The user's terminal while it is lent to a command: raw mode, and the way back
//! from it even when this process is killed. Knows no guest.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use protocol::WindowSize;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::sys;

mod keys;

pub(crate) use keys::{DETACH, Keys, Watch};

/// The hidden verb of the process that outlives this one.
pub(crate) const GUARD: &str = "terminal-guard";
/// What a terminal has that does not say.
const USUAL: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};
/// What this process tells its guard when all is well.
const RESTORED: u8 = b'r';
/// What the guard says once it knows the mode to go back to.
const READY: u8 = b'g';

/// Standard input is a terminal.
pub(crate) fn on_stdin() -> bool {
    isatty(rustix::stdio::stdin())
}

/// The size of the user's window, as far as one of the standard streams knows it.
pub(crate) fn window() -> WindowSize {
    let streams = [
        rustix::stdio::stdout(),
        rustix::stdio::stdin(),
        rustix::stdio::stderr(),
    ];
    let size = streams
        .into_iter()
        .find_map(|stream| tcgetwinsize(stream).ok());
    match size {
        Some(size) if size.ws_row > 0 && size.ws_col > 0 => WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        },
        _ => USUAL,
    }
}

/// Raw mode of standard input, until it is dropped.
pub(crate) struct Raw {
    before: Termios,
    guard: UnixStream,
}

impl Raw {
    /// Passes every key on as it is. A second process waits for the end of this one, to undo it in any case.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = rustix::stdio::stdin();
        let before = tcgetattr(terminal)?;
        let (mut guard, theirs) = UnixStream::pair()?;
        Command::new("/proc/self/exe")
            .arg0("hull")
            .arg(GUARD)
            .env_clear()
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(terminal.try_clone_to_owned()?)
            .process_group(0)
            .spawn()?;
        guard.read_exact(&mut [0])?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { before, guard })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
        let _ = self.guard.write_all(&[RESTORED]);
    }
}

/// The guard: standard input is the socket to who lends the terminal, standard output is the terminal.
pub(crate) fn guard() -> ExitCode {
    // It is never in the foreground; without this it would be stopped instead of obeyed.
    sys::ignore_background_output();
    let terminal = rustix::stdio::stdout();
    let Ok(before) = tcgetattr(terminal) else {
        return ExitCode::FAILURE;
    };
    let socket = rustix::stdio::stdin();
    let mut word = [READY];
    if rustix::io::write(socket.as_fd(), &word).is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        match rustix::io::read(socket.as_fd(), &mut word) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1) => return ExitCode::SUCCESS,
            _ => break,
        }
    }
    let _ = tcsetattr(terminal, OptionalActions::Now, &before);
    ExitCode::SUCCESS
}

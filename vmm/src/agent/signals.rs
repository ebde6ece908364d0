//! The signals that are passed on to the workload, as something to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What docker's `--sig-proxy` passes on, and the change of a window.
const PASSED: [i32; 9] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGWINCH,
];

/// Signals to this process, from [`Signals::catch`] on.
#[derive(Debug)]
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// From now on the passed signals end nothing here; they are there to be taken.
    pub(crate) fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        SignalDelivery::with_pipe(read, write, SignalOnly, PASSED).map(Self)
    }

    /// The signals that have come since the last call, each once.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.0
            .pending()
            .filter_map(|signal| u8::try_from(signal).ok())
            .collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Whether a user who sends this wants the end.
pub(crate) fn asks_to_end(signal: u8) -> bool {
    [SIGINT, SIGTERM].contains(&i32::from(signal))
}

/// Whether it says that the terminal's window has another size now.
pub(crate) fn tells_of_window(signal: u8) -> bool {
    i32::from(signal) == SIGWINCH
}

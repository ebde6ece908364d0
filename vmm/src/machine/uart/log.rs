//! Lines on their way to whoever reads the kernel's log. A reader that stalls loses lines, and is told how many; the guest and
//! its end never wait for it for long.

use std::fmt::Debug;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a line waits for its reader, the first time. Then lines are dropped until the reader goes on.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
const NONE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The writing end.
#[derive(Debug)]
pub(super) struct Log<W> {
    writer: W,
    /// Lines that were dropped since the last one that was written.
    lost: u64,
}

impl<W: AsFd + Write + Debug> Log<W> {
    /// A log that is written to `writer`.
    pub(super) fn new(writer: W) -> Self {
        Self { writer, lost: 0 }
    }

    /// Passes on a line, at most as long as a pipe that polls writable takes at once (4 KiB).
    pub(super) fn put(&mut self, line: &str) {
        let patience = if self.lost == 0 { PATIENCE } else { NONE };
        let mut wanted = [PollFd::new(&self.writer, PollFlags::OUT)];
        if !matches!(poll(&mut wanted, Some(&patience)), Ok(1..)) {
            self.lost += 1;
            return;
        }
        let mut text = String::with_capacity(line.len() + 1);
        if self.lost > 0 {
            text.push_str(&format!("[{} lines of the kernel's log lost]\n", self.lost));
            self.lost = 0;
        }
        text.push_str(line);
        text.push('\n');
        // One attempt: a reader that is gone takes nothing any more.
        let _ = self.writer.write(text.as_bytes());
    }
}

#[cfg(test)]
mod tests;

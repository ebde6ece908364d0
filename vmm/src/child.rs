//! Waiting for a process that this one has started, but not for ever.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Whether a process ends in time. It is not reaped.
pub(crate) fn ends_within(process: Pid, limit: Duration) -> io::Result<bool> {
    let process = pidfd_open(process, PidfdFlags::empty())?;
    let mut ready = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(poll(&mut ready, Some(&limit))? != 0)
}

//! Waiting for one of several descriptors, each of which stands for something. Knows not what.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Those of the sources whose descriptors can be read, in their order; none when the time is over or a signal came.
pub(crate) fn ready<S>(
    sources: Vec<(S, BorrowedFd<'_>)>,
    deadline: Option<Instant>,
) -> Result<Vec<S>, Errno> {
    let mut descriptors: Vec<PollFd<'_>> = sources
        .iter()
        .map(|(_, descriptor)| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
        .collect();
    let timeout = deadline
        .and_then(|limit| Timespec::try_from(limit.saturating_duration_since(Instant::now())).ok());
    match poll(&mut descriptors, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let ready: Vec<bool> = descriptors
        .iter()
        .map(|descriptor| !descriptor.revents().is_empty())
        .collect();
    Ok(sources
        .into_iter()
        .zip(ready)
        .filter_map(|((source, _), ready)| ready.then_some(source))
        .collect())
}

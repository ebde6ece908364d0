//! Readiness of host descriptors, without ever waiting for it. Refuses to know what is behind them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Most events taken at once.
const EVENTS: usize = 32;

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// An epoll of a device's own, so that all its descriptors look like one. Each is known by a mark.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Starts to watch `fd`. A regular file cannot be watched (`EPERM`): it is always ready.
    pub(crate) fn add(&self, fd: impl AsFd, mark: u64, events: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.0, fd, EventData::new_u64(mark), events)
    }

    /// Changes what `fd` is watched for, or hears again of what it was watched for once.
    pub(crate) fn change(&self, fd: impl AsFd, mark: u64, events: EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.0, fd, EventData::new_u64(mark), events)
    }

    /// What has happened.
    pub(crate) fn take(&self) -> Result<Vec<(u64, EventFlags)>, Errno> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.0, spare_capacity(&mut events), Some(&NOW)) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error),
        }
        // Fields are copied out: the kernel's structure is packed.
        Ok(events
            .iter()
            .map(|&Event { flags, data }| (data.u64(), flags))
            .collect())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether `fd` is ready for `events`, or will say why not.
pub(crate) fn is_ready(fd: impl AsFd, events: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), events)];
    poll(&mut fds, Some(&NOW)).is_ok_and(|ready| ready != 0)
}

//! The moment a machine ends, agreed on by its threads: the first who says so gives the reason, everybody is told.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::report::{Counts, End};

/// What is known of the end so far.
#[derive(Debug)]
pub(crate) struct Ending {
    state: Mutex<State>,
    left: Condvar,
    released: Condvar,
    event: EventFd,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    /// vCPU threads inside their loop.
    running: usize,
    /// vCPU threads that leave their guests wait before they enter them again.
    held: bool,
    /// What happened on those that left.
    counts: Counts,
    remarks: Vec<String>,
}

/// Remarks beyond these tell nothing new.
const MOST_REMARKS: usize = 16;

impl Ending {
    /// Nothing has ended.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            left: Condvar::new(),
            released: Condvar::new(),
            event: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Says why the machine ends. Only the first reason counts.
    pub(crate) fn declare(&self, end: End) {
        self.state().end.get_or_insert(end);
        // The counter cannot overflow by as many writes as there are threads.
        let _ = self.event.write(1);
    }

    /// The reason, if the machine has ended.
    pub(crate) fn reason(&self) -> Option<End> {
        self.state().end.clone()
    }

    /// Readable from the first `declare` on.
    pub(crate) fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Something worth telling that does not end the machine.
    pub(crate) fn remark(&self, remark: String) {
        let mut state = self.state();
        if state.remarks.len() < MOST_REMARKS {
            state.remarks.push(remark);
        }
    }

    /// What was remarked.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.state().remarks.clone()
    }

    /// vCPUs will tell their counts anew.
    pub(crate) fn begin(&self) {
        self.state().counts = Counts::default();
    }

    /// A vCPU thread begins.
    pub(crate) fn enter(&self) {
        self.state().running += 1;
    }

    /// A vCPU thread is out of its guest and will not enter again. `counts` is what has happened on its vCPU ever.
    pub(crate) fn leave(&self, counts: &Counts) {
        let mut state = self.state();
        state.running -= 1;
        state.counts.port += counts.port;
        state.counts.mmio += counts.mmio;
        state.counts.interrupted += counts.interrupted;
        state.counts.other += counts.other;
        drop(state);
        self.left.notify_all();
    }

    /// Until [`Ending::release`], vCPU threads that were made to leave their guests wait.
    pub(crate) fn hold(&self) {
        self.state().held = true;
    }

    /// Lets them go on.
    pub(crate) fn release(&self) {
        self.state().held = false;
        self.released.notify_all();
    }

    /// Whether those that leave are to wait.
    pub(crate) fn is_held(&self) -> bool {
        self.state().held
    }

    /// A vCPU thread is out of its guest, and waits until it may enter again.
    pub(crate) fn wait(&self) {
        let mut state = self.state();
        state.running -= 1;
        self.left.notify_all();
        while state.held {
            state = match self.released.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        state.running += 1;
    }

    /// What has happened on all vCPUs that left.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Waits until all vCPU threads have left, at most so long.
    pub(crate) fn all_left(&self, patience: Duration) -> bool {
        let state = self.state();
        match self
            .left
            .wait_timeout_while(state, patience, |state| state.running > 0)
        {
            Ok((state, _)) => state.running == 0,
            Err(poisoned) => poisoned.into_inner().0.running == 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

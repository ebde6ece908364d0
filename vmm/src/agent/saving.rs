//! A snapshot of a container that runs: its processes are stopped by guest init, its machine is held and written down by the
//! VMM, and both are let go on, whatever came of it. If it is to be live, they go on before their memory is written. One at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use protocol::FromHost;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::clients::Role;
use super::{Agent, AgentError};
use crate::container::Container;
use crate::control::Answer;
use crate::snapshot::{DISK, MACHINE, MEMORY, draft};
use crate::vmm::{Order, Rest};
use crate::{failure, sparse};

/// How long the container's processes have to stop. One that waits for a disk cannot at once.
const REST_LIMIT: Duration = Duration::from_secs(10);

/// One that is being made.
#[derive(Debug)]
pub(super) enum Saving {
    /// Guest init has been told; by then it has to answer.
    Asked {
        directory: OwnedFd,
        live: bool,
        limit: Instant,
    },
    /// The machine stands still, or is about to.
    Held { directory: OwnedFd, live: bool },
    /// The same, while a thread copies its disk; the other end of this is closed when it has.
    Copying {
        thread: JoinHandle<Result<(), String>>,
        done: UnixStream,
        live: bool,
    },
    /// The machine goes on, and a process of its VMM's writes what its memory was; what came of all else.
    Writing(Result<(), String>),
}

impl Saving {
    /// Whether the container stands still for it.
    pub(super) fn holds(&self) -> bool {
        !matches!(self, Self::Writing(_))
    }
}

impl Agent<'_> {
    /// Begins a snapshot in this directory, which has its two files, empty; its client is told when it is made.
    pub(super) fn save(
        &mut self,
        index: usize,
        directory: Option<OwnedFd>,
        live: bool,
    ) -> Result<(), AgentError> {
        let Some(client) = self.watcher.clients.get_mut(index) else {
            return Ok(());
        };
        let refusal = if !self.started || self.status.is_some() {
            Some("it does not run")
        } else if self.frozen {
            Some("it is paused")
        } else if self.saving.is_some() {
            Some("another snapshot of it is being made")
        } else if self.owes_rest {
            Some("its processes have still not stopped for an earlier one")
        } else {
            None
        };
        let directory = match (refusal, directory) {
            (None, Some(directory)) => directory,
            (refusal, _) => {
                let why = refusal.unwrap_or("no directory came with the request");
                client.tell(&Answer::Refused(why.to_owned()), None);
                return Ok(());
            }
        };
        client.role = Role::Saving;
        let limit = Instant::now() + REST_LIMIT;
        self.saving = Some(Saving::Asked {
            directory,
            live,
            limit,
        });
        self.owes_rest = true;
        // What is only in its memory of files that it shares would be written by every copy, whatever is there by then.
        let sync = !self.task.container.volumes.is_empty();
        self.tell(&FromHost::Rest { sync })
    }

    /// When patience with that ends.
    pub(super) fn saving_due(&self) -> Option<Instant> {
        match &self.saving {
            Some(Saving::Asked { limit, .. }) => Some(*limit),
            _ => None,
        }
    }

    pub(super) fn go_on_saving(&mut self) -> Result<(), AgentError> {
        match self.saving_due() {
            Some(limit) if limit <= Instant::now() => {
                let seconds = REST_LIMIT.as_secs();
                let why = format!("its processes did not stop within {seconds} seconds");
                self.end_saving(Err(why))
            }
            _ => Ok(()),
        }
    }

    /// The container stands still.
    pub(super) fn rested(&mut self) -> Result<(), AgentError> {
        if !std::mem::take(&mut self.owes_rest) {
            return Err(AgentError::Protocol("it rests, and nobody asked for that"));
        }
        match self.saving.take() {
            Some(Saving::Asked { .. }) if self.status.is_some() => {
                self.end_saving(Err("it has ended".to_owned()))
            }
            Some(Saving::Asked {
                directory, live, ..
            }) => {
                let files = open(&directory).map_err(|error| error.to_string());
                if live {
                    // Where it cannot, the limit may end it, and that is told.
                    let _ = self.vmm.have_memory(true);
                }
                let order = files.map(if live { Order::Part } else { Order::Hold });
                self.saving = Some(Saving::Held { directory, live });
                let sent = order
                    .and_then(|order| self.vmm.order(&order).map_err(|error| error.to_string()));
                sent.or_else(|why| self.end_saving(Err(why)))
            }
            // Nobody waits for it any more, and it has been told to go on.
            other => {
                self.saving = other;
                Ok(())
            }
        }
    }

    /// The VMM holds the machine and has written it, its memory at least in a process of its own, or has not.
    pub(super) fn held(&mut self, written: Result<(), String>) -> Result<(), AgentError> {
        let saving = (written, self.saving.take());
        let (Ok(()), Some(Saving::Held { directory, live })) = saving else {
            return self.end_saving(saving.0);
        };
        match self.copy_disk(&directory, live) {
            Ok(None) => self.let_go(Ok(()), live),
            Ok(copying) => {
                self.saving = copying;
                Ok(())
            }
            Err(why) => self.let_go(Err(why), live),
        }
    }

    /// Begins to copy the container's disk into the snapshot, if it has one.
    fn copy_disk(&self, directory: &OwnedFd, live: bool) -> Result<Option<Saving>, String> {
        let disk = self.watcher.container.map(Container::disk);
        let disk = disk.transpose().map_err(|error| failure::line(&error))?;
        let Some(from) = disk.flatten() else {
            return Ok(None);
        };
        let failed = |error: io::Error| failure::line(&error);
        let to = draft::create(directory.as_fd(), DISK).map_err(failed)?;
        let (done, ends_with_thread) = UnixStream::pair().map_err(failed)?;
        let copying = Builder::new().spawn(move || {
            let copied = sparse::copy(&from, &to);
            drop(ends_with_thread);
            copied.map_err(|error| format!("copying its disk failed: {error}"))
        });
        let thread = copying.map_err(failed)?;
        Ok(Some(Saving::Copying { thread, done, live }))
    }

    /// What is readable when the disk is copied.
    pub(super) fn copying(&self) -> Option<BorrowedFd<'_>> {
        match &self.saving {
            Some(Saving::Copying { done, .. }) => Some(done.as_fd()),
            _ => None,
        }
    }

    /// The disk is copied, or could not be.
    pub(super) fn copied(&mut self) -> Result<(), AgentError> {
        match self.saving.take() {
            Some(Saving::Copying { thread, live, .. }) => {
                let panicked = Err("copying its disk failed".to_owned());
                let copied = thread.join().unwrap_or(panicked);
                self.let_go(copied, live)
            }
            other => {
                self.saving = other;
                Ok(())
            }
        }
    }

    /// Lets a machine that is held go on. If its memory is still written, that is waited for, also where all is in vain.
    fn let_go(&mut self, made: Result<(), String>, live: bool) -> Result<(), AgentError> {
        // A VMM that has gone is missed by whoever reads its report.
        let _ = self.vmm.order(&Order::GoOn);
        if live {
            self.saving = Some(Saving::Writing(made));
            return self.let_container_go();
        }
        self.end_saving(made)
    }

    /// The memory of a machine that goes on is written, or could not be.
    pub(super) fn written(&mut self, written: Result<(), String>) {
        match self.saving.take() {
            Some(Saving::Writing(made)) => self.tell_of_saving(made.and(written)),
            other => self.saving = other,
        }
    }

    fn end_saving(&mut self, made: Result<(), String>) -> Result<(), AgentError> {
        self.saving = None;
        self.tell_of_saving(made);
        self.let_container_go()
    }

    fn let_container_go(&mut self) -> Result<(), AgentError> {
        self.give_checks_time();
        self.tell(&FromHost::GoOn)
    }

    fn tell_of_saving(&mut self, made: Result<(), String>) {
        let _ = self.vmm.have_memory(false);
        let answer = match made {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Refused(why),
        };
        let clients = self.watcher.clients.iter_mut();
        for client in clients.filter(|client| client.role == Role::Saving) {
            client.role = Role::Fresh;
            client.tell(&answer, None);
        }
    }
}

fn open(directory: &OwnedFd) -> Result<Rest, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |name| openat(directory, name, flags, Mode::empty());
    Ok(Rest {
        machine: open(MACHINE)?,
        memory: open(MEMORY)?,
    })
}

#[cfg(test)]
mod tests;

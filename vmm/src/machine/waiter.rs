//! The thread of a device whose work waits for the host's files, so that no other device waits with it. Knows no device by name.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::devices::Plugged;
use super::ending::Ending;
use super::report::End;
use crate::{jail, sys};

/// A way to a file can be thousands of directories long.
const STACK: usize = 512 << 10;
/// In place of a queue number: stop.
const STOP: u64 = 255;
/// Events taken at a time.
const BATCH: usize = 4;

/// A thread that serves one device.
pub(super) struct Waiter {
    thread: JoinHandle<()>,
    stop: Arc<EventFd>,
}

impl Waiter {
    /// Starts the thread; it serves nothing before `confined`.
    pub(super) fn new(
        device: Plugged,
        ending: &Arc<Ending>,
        confined: &Arc<OnceLock<()>>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let watch = |descriptor: RawFd, token: u64| -> io::Result<()> {
            let descriptor = sys::borrow(&device, descriptor).ok_or(io::ErrorKind::InvalidInput)?;
            let (data, events) = (EventData::new_u64(token), EventFlags::IN | EventFlags::ET);
            Ok(epoll::add(&epoll, descriptor, data, events)?)
        };
        for (queue, kick) in (0..).zip(device.kicks()) {
            watch(kick, queue)?;
        }
        watch(stop.as_raw_fd(), STOP)?;
        let (ending, confined, held) = (ending.clone(), confined.clone(), stop.clone());
        let thread = Builder::new()
            .name(device.slot.name().to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _stop = held;
                if let Err(error) = jail::confine(jail::Role::Files) {
                    let cause = format!("Filtering system calls failed: {error}");
                    return ending.declare(End::Failed { cause });
                }
                confined.wait();
                let mut events = Vec::with_capacity(BATCH);
                loop {
                    events.clear();
                    match epoll::wait(&epoll, spare_capacity(&mut events), None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => {
                            let cause = format!("Waiting for a device failed: {error}");
                            return ending.declare(End::Failed { cause });
                        }
                    }
                    for event in &events {
                        match event.data.u64() {
                            STOP => return,
                            queue => device.slot.kick(usize::try_from(queue).unwrap_or(0)),
                        }
                    }
                }
            })?;
        Ok(Self { thread, stop })
    }

    /// Lets it end after what it is doing.
    pub(super) fn stop(&self) {
        // The counter cannot be full.
        let _ = self.stop.write(1);
    }

    /// Waits for that.
    pub(super) fn join(self) {
        self.stop();
        let _ = self.thread.join();
    }
}

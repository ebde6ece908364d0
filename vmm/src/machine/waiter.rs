//! The thread of a device whose work waits for the host's files, so that no other device waits with it. Knows no device by name.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

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
    turn: Arc<Turn>,
}

/// Whether the thread may touch its device, and does.
#[derive(Default)]
struct Turn {
    state: Mutex<TurnState>,
    idle: Condvar,
}

#[derive(Default)]
struct TurnState {
    serves: bool,
    held: bool,
}

impl Turn {
    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread serve, as soon as nobody holds the device.
    fn take(&self, serve: impl FnOnce()) {
        let held = |state: &mut TurnState| state.held;
        let state = self.idle.wait_while(self.state(), held);
        state.unwrap_or_else(PoisonError::into_inner).serves = true;
        serve();
        let mut state = self.state();
        state.serves = false;
        if state.held {
            self.idle.notify_all();
        }
    }

    /// Keeps it from that until [`release`](Self::release); whether it has ended what it was doing by then.
    fn hold(&self, patience: Duration) -> bool {
        let mut state = self.state();
        state.held = true;
        let serves = |state: &mut TurnState| state.serves;
        let waited = self.idle.wait_timeout_while(state, patience, serves);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.serves
    }

    fn release(&self) {
        self.state().held = false;
        self.idle.notify_all();
    }
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
        let turn = Arc::new(Turn::default());
        let own = turn.clone();
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
                            queue => own.take(|| {
                                device.slot.kick(usize::try_from(queue).unwrap_or(0));
                            }),
                        }
                    }
                }
            })?;
        Ok(Self { thread, stop, turn })
    }

    /// Keeps the device as it is until [`release`](Self::release), unless a file of the host's takes longer than that.
    pub(super) fn hold(&self, patience: Duration) -> bool {
        self.turn.hold(patience)
    }

    /// Lets it go on.
    pub(super) fn release(&self) {
        self.turn.release();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_device_that_is_held_is_not_served() {
        let turn = Turn::default();
        let ((begun, begins), (end, ends), (told, tells)) = (channel(), channel(), channel());
        thread::scope(|scope| {
            let turn = &turn;
            scope.spawn(move || {
                for number in 0..2 {
                    turn.take(|| {
                        begun.send(number).unwrap();
                        ends.recv().unwrap();
                    });
                    told.send(number).unwrap();
                }
            });
            assert_eq!(begins.recv_timeout(LONG), Ok(0));
            // What is under way takes longer than that.
            assert!(!turn.hold(SHORT));
            end.send(()).unwrap();
            assert!(turn.hold(LONG));
            assert_eq!(tells.recv_timeout(LONG), Ok(0));
            begins.recv_timeout(SHORT).unwrap_err();
            turn.release();
            assert_eq!(begins.recv_timeout(LONG), Ok(1));
            end.send(()).unwrap();
            assert_eq!(tells.recv_timeout(LONG), Ok(1));
        });
        assert!(turn.hold(SHORT));
    }
}

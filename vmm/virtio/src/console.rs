//! The console device (virtio 1.2 §5.3), one port. Refuses to wait for its reader: what does not fit is dropped, and the
//! loss is told.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::device::{Io, Served, VirtioDevice};
use crate::poll::{Watch, is_ready};
use crate::{DeviceError, StateError};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Most bytes kept for a reader that does not read.
const BACKLOG: usize = 64 << 10;

/// Most bytes of one read or write: a pipe that polls writable takes as many (`PIPE_BUF`) without blocking.
const PIECE: usize = 4096;

/// Marks of the watched descriptors.
const OUTPUT: u64 = 0;
const INPUT: u64 = 1;

const WRITABLE: EventFlags = EventFlags::OUT.union(EventFlags::ONESHOT);
const READABLE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

/// A console whose output goes to a host descriptor.
#[derive(Debug)]
pub struct Console {
    output: OwnedFd,
    input: Option<OwnedFd>,
    watch: Watch,
    backlog: VecDeque<u8>,
    /// Bytes dropped since the backlog was last empty.
    lost: u64,
    /// There may be input that nobody has read.
    input_ready: bool,
}

impl Console {
    /// Writes what the guest prints to `output`, and gives it what `input` says, if there is one. Neither need be
    /// non-blocking, but SIGPIPE must be ignored.
    ///
    /// # Errors
    /// Those of `epoll_create` and `epoll_ctl`.
    pub fn new(output: OwnedFd, input: Option<OwnedFd>) -> io::Result<Self> {
        let watch = Watch::new()?;
        // One shot each: neither a full queue nor a closed pipe may keep the descriptor readable. A regular file cannot
        // be watched and is always ready, also when it is the output.
        let unwatched = |result| match result {
            Ok(()) => Ok(false),
            Err(Errno::PERM) => Ok(true),
            Err(error) => Err(error),
        };
        unwatched(watch.add(&output, OUTPUT, EventFlags::ONESHOT))?;
        let input_ready = match &input {
            Some(input) => unwatched(watch.add(input, INPUT, READABLE))?,
            None => false,
        };
        Ok(Self {
            output,
            input,
            watch,
            backlog: VecDeque::new(),
            lost: 0,
            input_ready,
        })
    }

    fn put(&mut self, bytes: &[u8]) {
        let written = match self.backlog.is_empty() {
            true => self.write(bytes),
            false => 0,
        };
        let rest = bytes.get(written..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
        if self.backlog.is_empty() {
            self.arm(&self.output, OUTPUT, WRITABLE);
        }
        let room = BACKLOG.saturating_sub(self.backlog.len());
        let (kept, lost) = rest.split_at(room.min(rest.len()));
        self.backlog.extend(kept);
        self.lost = self
            .lost
            .saturating_add(u64::try_from(lost.len()).unwrap_or(0));
    }

    /// Writes as much as there is room for now. A reader that is gone has room for everything.
    fn write(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            if !is_ready(self.output.as_fd(), PollFlags::OUT) {
                break;
            }
            let piece = rest.get(..PIECE).unwrap_or(rest);
            match rustix::io::write(&self.output, piece) {
                Ok(n) => done = done.saturating_add(n),
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => break,
                Err(_) => return bytes.len(),
            }
        }
        done
    }

    fn drain(&mut self) {
        let bytes = std::mem::take(&mut self.backlog);
        let (front, back) = bytes.as_slices();
        let mut written = self.write(front);
        if written == front.len() {
            written = written.saturating_add(self.write(back));
        }
        self.backlog = bytes;
        self.backlog.drain(..written.min(self.backlog.len()));
        if self.backlog.is_empty() && self.lost != 0 {
            let mut note = Vec::new();
            // Writing to a vector cannot fail.
            let _ = writeln!(note, "\r\n[{} bytes of console output lost]\r", self.lost);
            self.lost = 0;
            self.put(&note);
        } else if !self.backlog.is_empty() {
            self.arm(&self.output, OUTPUT, WRITABLE);
        }
    }

    fn receive(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        let Some(input) = self.input.as_ref().filter(|_| self.input_ready) else {
            return Ok(());
        };
        let (mut ready, mut ended) = (true, false);
        io.serve(RECEIVE, |chain| {
            let mut bytes = [0; PIECE];
            let length = chain.writable.left().min(PIECE);
            if length == 0 {
                return Ok(Served::Done(0));
            }
            ready = is_ready(input, PollFlags::IN);
            if !ready {
                return Ok(Served::Later);
            }
            match rustix::io::read(input, bytes.get_mut(..length).unwrap_or_default()) {
                Ok(n) if n != 0 => {
                    let bytes = bytes.get(..n).unwrap_or_default();
                    return Ok(Served::Done(chain.writable.write(bytes)));
                }
                Err(Errno::INTR | Errno::AGAIN) => ready = false,
                _ => ended = true,
            }
            Ok(Served::Later)
        })?;
        self.input_ready = ready;
        if ended {
            self.input = None;
        } else if !ready {
            self.arm(input, INPUT, READABLE);
        }
        Ok(())
    }

    /// Wants to hear once of `events`. Regular files are in no epoll, and always ready.
    fn arm(&self, fd: &OwnedFd, mark: u64, events: EventFlags) {
        let _ = self.watch.change(fd, mark, events);
    }
}

impl VirtioDevice for Console {
    const ID: u32 = 3;
    const NAME: &'static str = "console";
    const KERNEL: &'static str = "CONFIG_VIRTIO_CONSOLE";
    const QUEUES: &'static [u16] = &[8, 64];
    /// The backlog stays with the reader it is for.
    type State = ();

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        if queue == RECEIVE {
            return self.receive(io);
        }
        io.serve(TRANSMIT, |chain| {
            let mut bytes = [0; PIECE];
            loop {
                match chain.readable.read(&mut bytes) {
                    0 => return Ok(Served::Done(0)),
                    n => self.put(bytes.get(..n).unwrap_or_default()),
                }
            }
        })
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.as_fd())
    }

    fn host_ready(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        let events = self.watch.take().map_err(io::Error::from)?;
        let has = |which| events.iter().any(|&(mark, _)| mark == which);
        let (output, input) = (has(OUTPUT), has(INPUT));
        if output {
            self.drain();
        }
        self.input_ready |= input;
        self.receive(io)
    }

    fn save(&self) -> Self::State {}

    fn restore(&mut self, (): Self::State) -> Result<(), StateError> {
        Ok(())
    }
}

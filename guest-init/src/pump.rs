//! One standard stream between a process's pipe and the host's connection. Never waits: it moves what can be moved and
//! says how it stands. Knows no process and no loop.

use alloc::vec::Vec;

use protocol::{Attach, FrameError, Opening, Stream};
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::{SpliceFlags, splice};

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// Moves in a row before another stream gets its turn.
const TURN: usize = 16;

/// A stream, and what is at its two ends.
#[derive(Debug)]
pub struct Pump {
    socket: OwnedFd,
    pipe: OwnedFd,
    inward: bool,
    /// What is left of the first frame; nothing goes before it.
    opening: Vec<u8>,
}

/// Which end of a pump something happened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host's.
    Socket,
    /// The process's.
    Pipe,
}

/// How a pump stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing moves until something happens at one end.
    Waiting,
    /// There is more to move right now.
    More,
    /// Over: everything was moved, or one side no longer takes part. Drop the pump: that tells the other side.
    Done,
}

impl Pump {
    /// A pump over a socket that may still be connecting. Both descriptors must not block.
    ///
    /// # Errors
    /// None in practice: the first frame is small.
    pub fn new(attach: Attach, socket: OwnedFd, pipe: OwnedFd) -> Result<Self, FrameError> {
        let opening = protocol::encode(&Opening::Attach(attach))?;
        Ok(Self {
            socket,
            pipe,
            inward: attach.stream == Stream::Stdin,
            opening,
        })
    }

    /// The two descriptors to watch, for everything and edge-triggered.
    #[must_use]
    pub fn ends(&self) -> [(End, &OwnedFd); 2] {
        [(End::Socket, &self.socket), (End::Pipe, &self.pipe)]
    }

    /// What an event means: whether one side has left, else moves what can be moved.
    pub fn happened(&mut self, end: End, flags: EventFlags) -> Progress {
        let gone = match (end, self.inward) {
            // The host wants no more, or the connection was refused.
            (End::Socket, false) => EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP,
            // Nobody will read any more.
            (End::Pipe, true) => EventFlags::ERR,
            // The end of what comes is found by reading it.
            (End::Socket, true) => EventFlags::ERR,
            (End::Pipe, false) => EventFlags::empty(),
        };
        if flags.intersects(gone) {
            Progress::Done
        } else {
            self.step()
        }
    }

    /// Moves what can be moved now.
    pub fn step(&mut self) -> Progress {
        while !self.opening.is_empty() {
            match rustix::net::send(
                &self.socket,
                &self.opening,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => drop(self.opening.drain(..sent)),
                Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => return Progress::Waiting,
                Err(Errno::INTR) => {}
                Err(_) => return Progress::Done,
            }
        }
        let (from, to) = if self.inward {
            (&self.socket, &self.pipe)
        } else {
            (&self.pipe, &self.socket)
        };
        for _ in 0..TURN {
            match splice(
                from,
                None,
                to,
                None,
                CHUNK,
                SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
            ) {
                Ok(0) => return Progress::Done,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Waiting,
                Err(_) => return Progress::Done,
            }
        }
        Progress::More
    }

    /// Whether the host has been told what this connection is.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.opening.is_empty()
    }

    /// Whether it carries bytes to the process.
    #[must_use]
    pub fn is_inward(&self) -> bool {
        self.inward
    }

    /// Whether the process has written nothing that is still here. Only its end makes this final.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|waiting| waiting == 0)
    }
}

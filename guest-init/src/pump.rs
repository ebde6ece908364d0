//! One standard stream between a process's pipe or terminal and the host's connection. Never waits: it moves what can be
//! moved and says how it stands. Knows no process and no loop.

use alloc::vec::Vec;

use protocol::{Attach, FrameError, Opening, ProcessId, Stream};
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::{SpliceFlags, splice};

use crate::relay::Relay;

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// Moves in a row before another stream gets its turn.
const TURN: usize = 16;

/// A stream, and what is at its two ends.
#[derive(Debug)]
pub struct Pump {
    /// None as long as nothing was written that it would carry.
    socket: Option<OwnedFd>,
    /// The process's pipe, or the terminal it is behind.
    local: OwnedFd,
    attach: Attach,
    inward: bool,
    /// What is left of the first frame; nothing goes before it.
    opening: Vec<u8>,
    /// How bytes get across where the kernel cannot move them by itself: one end must be a pipe for that.
    relay: Option<Relay>,
}

/// Which end of a pump something happened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host's.
    Socket,
    /// The process's.
    Local,
}

/// How a pump stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing moves until something happens at one end.
    Waiting,
    /// There is something to move, and no connection yet.
    Dial,
    /// There is more to move right now.
    More,
    /// Over: everything was moved, or one side no longer takes part. Drop the pump: that tells the other side.
    Done,
}

impl Pump {
    /// A pump between a pipe, which does not block, and the host, to which it has no connection yet.
    #[must_use]
    pub fn pipe(attach: Attach, pipe: OwnedFd) -> Self {
        Self {
            socket: None,
            local: pipe,
            attach,
            inward: attach.stream == Stream::Stdin,
            opening: Vec::new(),
            relay: None,
        }
    }

    /// Goes on over this connection, which may still be under way and does not block: the first one, or one to another host.
    ///
    /// # Errors
    /// None in practice: the first frame is small.
    pub fn connect(&mut self, socket: OwnedFd) -> Result<(), FrameError> {
        self.opening = protocol::encode(&Opening::Attach(self.attach))?;
        self.socket = Some(socket);
        Ok(())
    }

    /// The two directions of a terminal: from it first, which also opens the connection, then to it. Each has its own
    /// descriptors for the same socket and terminal, neither of which may block.
    ///
    /// # Errors
    /// None in practice: the first frame is small.
    pub fn terminal(
        process: ProcessId,
        sockets: [OwnedFd; 2],
        terminals: [OwnedFd; 2],
    ) -> Result<[Self; 2], FrameError> {
        let stream = Stream::Terminal;
        let attach = Attach { process, stream };
        let opening = protocol::encode(&Opening::Attach(attach))?;
        let ([out_socket, in_socket], [from, to]) = (sockets, terminals);
        let relay = || Some(Relay::default());
        Ok([
            Self {
                socket: Some(out_socket),
                local: from,
                attach,
                inward: false,
                opening,
                relay: relay(),
            },
            Self {
                socket: Some(in_socket),
                local: to,
                attach,
                inward: true,
                opening: Vec::new(),
                relay: relay(),
            },
        ])
    }

    /// The descriptors to watch, for everything and edge-triggered.
    pub fn ends(&self) -> impl Iterator<Item = (End, &OwnedFd)> {
        let socket = self.socket.iter().map(|socket| (End::Socket, socket));
        socket.chain([(End::Local, &self.local)])
    }

    /// What an event means: whether one side has left, else moves what can be moved.
    pub fn happened(&mut self, end: End, flags: EventFlags) -> Progress {
        if self.socket.is_none() {
            return match self.step() {
                // Nobody can write any more.
                Progress::Waiting if flags.contains(EventFlags::HUP) => Progress::Done,
                progress => progress,
            };
        }
        let gone = match (end, self.inward) {
            // The host wants no more, or the connection was refused. (It may end a terminal's input alone.)
            (End::Socket, false) if self.relay.is_none() => {
                EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP
            }
            (End::Socket, false) => EventFlags::ERR | EventFlags::HUP,
            // Nobody will read any more.
            (End::Local, true) => EventFlags::ERR,
            // The end of what comes is found by reading it.
            (End::Socket, true) => EventFlags::ERR,
            (End::Local, false) => EventFlags::empty(),
        };
        let half_closed = end == End::Socket && !self.inward && flags.contains(EventFlags::RDHUP);
        if flags.intersects(gone) || half_closed && self.is_refused() {
            Progress::Done
        } else {
            self.step()
        }
    }

    /// Whether the host's end takes nothing any more: sending nothing fails then.
    fn is_refused(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| {
            let sent = rustix::net::send(socket, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            matches!(sent, Err(Errno::PIPE | Errno::NOTCONN | Errno::CONNRESET))
        })
    }

    /// Moves what can be moved now.
    pub fn step(&mut self) -> Progress {
        let Some(socket) = &self.socket else {
            return match self.is_drained() {
                true => Progress::Waiting,
                false => Progress::Dial,
            };
        };
        while !self.opening.is_empty() {
            match rustix::net::send(
                socket,
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
            (socket, &self.local)
        } else {
            (&self.local, socket)
        };
        for _ in 0..TURN {
            let moved = match &mut self.relay {
                Some(relay) => relay.carry(from, to),
                None => splice(
                    from,
                    None,
                    to,
                    None,
                    CHUNK,
                    SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
                ),
            };
            match moved {
                Ok(0) => return Progress::Done,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Waiting,
                // Not connected yet: the other direction of a terminal opens the connection.
                Err(Errno::NOTCONN) if self.inward => return Progress::Waiting,
                Err(_) => return Progress::Done,
            }
        }
        Progress::More
    }

    /// Whether it has a connection, which the host has been told of or soon is.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the host knows what its connection is, if it has one.
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
        match &self.relay {
            Some(relay) => relay.is_empty(),
            None => rustix::io::ioctl_fionread(&self.local).is_ok_and(|waiting| waiting == 0),
        }
    }
}

//! One TCP connection: a guest's end, spoken with here, and a socket of the host's. Refuses to know who may connect where.
//!
//! Between the two there is nothing to lose: what the guest has not acknowledged waits in the host's socket, which is looked at
//! without taking; what the host's socket does not take at once waits in a bounded backlog. So there is no congestion, no
//! reordering and no estimate of times; only a guest that dropped what it was given is given it again.

mod hear;
mod write;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown, sockopt};
pub(crate) use write::{finish_with, headers};

use crate::sys;
use crate::wire::{self, ETHERNET_LENGTH, Segment, TCP_LENGTH, flag};

/// How far a guest may be ahead of the host's socket.
const WINDOW: usize = 1 << 20;
/// The shift by which windows are told to the guest.
const SCALE: u8 = 6;
/// Most bytes in flight towards the guest on hosts where each look begins at the first of them.
const MOST_REPEATED: usize = 64 << 10;
/// Data in the largest packet: 65,535 bytes less the longest headers.
const MOST_DATA: usize = 65_535 - 40 - TCP_LENGTH;
/// A packet of data waits for this much room, lest a guest that is short of buffers gets crumbs.
const LEAST_ROOM: usize = 1460;
/// A segment size smaller than this is raised to it.
const LEAST_SEGMENT: usize = 88;
/// Ticks without an answer after which the guest is given the same again; doubled each time, up to four seconds: nothing is lost but what
/// the guest had no room for, and nobody else is on the link.
const PATIENCE: u32 = 2;
const DOUBLED: u32 = 3;
/// How often it is given the same: two minutes in all, for which Linux tries to connect.
const ATTEMPTS: u32 = 33;
/// A guest says so often that it misses something before it is believed.
const COMPLAINTS: u8 = 3;

/// Where in its life a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The host's socket is being connected; the guest waits.
    Connecting,
    /// The guest has not acknowledged our SYN; in what it acknowledges there is also its own?
    Opening { asked: bool },
    /// Data may flow.
    Open,
}

/// What is to be done with a connection after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Wait,
    /// It has something to send.
    Send,
    /// It is over.
    End,
    /// It is over, and the guest must be told.
    Reset,
    /// It never was: the host could not connect.
    Refused(Errno),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    phase: Phase,
    /// The port and address that the guest sees at the other end, and its own.
    remote: (IpAddr, u16),
    local: (IpAddr, u16),
    /// Sequence numbers towards the guest: the first it has not acknowledged, the next to be sent.
    unacknowledged: u32,
    next: u32,
    /// Room the guest has from `unacknowledged` on.
    window: u32,
    scale: Option<u8>,
    most: usize,
    /// The next sequence number expected from the guest.
    expected: u32,
    /// What the host's socket has not taken yet.
    backlog: Vec<u8>,
    /// The host's kernel remembers how far we looked.
    remembers: bool,
    /// There may be data, or an end, that was not looked at.
    readable: bool,
    host_ended: bool,
    guest_ended: bool,
    /// Our FIN is among what was sent.
    finished: bool,
    /// The host's socket is broken: what it still has for the guest comes first, then a reset.
    failed: bool,
    must_acknowledge: bool,
    /// The window last told was nearly nothing.
    narrow: bool,
    complaints: u8,
    /// Ticks since the guest last acknowledged something, and how often it was given the same.
    ticks: u32,
    attempts: u32,
}

impl Connection {
    fn new(socket: OwnedFd, phase: Phase, remote: (IpAddr, u16), local: (IpAddr, u16)) -> Self {
        // The only one who hears it could choose its own.
        let first = u32::from(remote.1) << 16 ^ u32::from(local.1) ^ 0x6875_6c6c;
        Self {
            remembers: sys::peek_from(socket.as_fd(), 0),
            socket,
            phase,
            remote,
            local,
            unacknowledged: first,
            next: first,
            window: 0,
            scale: None,
            most: 536,
            expected: 0,
            backlog: Vec::new(),
            readable: false,
            host_ended: false,
            guest_ended: false,
            finished: false,
            failed: false,
            must_acknowledge: false,
            narrow: false,
            complaints: 0,
            ticks: 0,
            attempts: 0,
        }
    }

    /// One that the guest asked for with `syn`; `socket` is being connected.
    pub(crate) fn outward(
        socket: OwnedFd,
        remote: (IpAddr, u16),
        local: (IpAddr, u16),
        syn: &Segment,
    ) -> Self {
        let mut new = Self::new(socket, Phase::Connecting, remote, local);
        new.hear_syn(syn);
        new
    }

    /// One that a peer of the host's made; the guest does not know of it yet.
    pub(crate) fn inward(socket: OwnedFd, remote: (IpAddr, u16), local: (IpAddr, u16)) -> Self {
        let phase = Phase::Opening { asked: true };
        Self::new(socket, phase, remote, local)
    }

    fn hear_syn(&mut self, syn: &Segment) {
        self.expected = syn.sequence.wrapping_add(1);
        self.window = syn.window.into();
        self.scale = syn.scale;
        self.most = syn.most.map_or(536, usize::from).max(LEAST_SEGMENT);
    }

    /// Whether it needs [`tick`](Self::tick)s.
    pub(crate) fn is_timed(&self) -> bool {
        self.in_flight() != 0
    }

    /// Bytes in its backlog.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    fn in_flight(&self) -> u32 {
        self.next.wrapping_sub(self.unacknowledged)
    }

    /// What tells the guest that this is over.
    pub(crate) fn reset(&self) -> Segment {
        Segment {
            flags: flag::RST | flag::ACK,
            ..self.segment()
        }
    }

    /// As much as is known of what the guest asked for this with.
    pub(crate) fn syn(&self) -> Segment {
        Segment {
            source: self.local.1,
            destination: self.remote.1,
            sequence: self.expected.wrapping_sub(1),
            flags: flag::SYN,
            ..Segment::default()
        }
    }

    /// A segment from the other end, in its present state.
    fn segment(&self) -> Segment {
        let syn = matches!(self.phase, Phase::Opening { .. });
        let scale = if self.scale.is_some() && !syn {
            SCALE
        } else {
            0
        };
        let room = WINDOW.saturating_sub(self.backlog.len()) >> scale;
        Segment {
            source: self.remote.1,
            destination: self.local.1,
            sequence: self.next,
            acknowledged: self.expected,
            flags: flag::ACK,
            window: u16::try_from(room).unwrap_or(u16::MAX),
            most: None,
            scale: None,
        }
    }

    /// The peer of the host's sees a reset, not an end.
    fn drop_hard(&self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO));
    }

    /// The host's socket says that there is nothing more to be had from it.
    pub(crate) fn fail(&mut self, error: Errno) -> Next {
        match self.phase {
            // The guest's own patience is as long as the host's.
            Phase::Connecting if error == Errno::TIMEDOUT => Next::End,
            Phase::Connecting => Next::Refused(error),
            Phase::Open if !self.finished => {
                self.backlog = Vec::new();
                (self.failed, self.readable) = (true, true);
                self.after()
            }
            _ => Next::Reset,
        }
    }

    /// What is to be done now.
    fn after(&self) -> Next {
        if self.guest_ended && self.backlog.is_empty() && self.finished && self.in_flight() == 0 {
            // The last acknowledgement, if the guest waits for one.
            return if self.must_acknowledge {
                Next::Send
            } else {
                Next::End
            };
        }
        let may_send = (self.readable || self.host_ended) && !self.finished;
        // A reset needs no room.
        let must_reset = self.failed && !self.readable;
        match self.must_acknowledge || must_reset || may_send && self.room() != 0 {
            true => Next::Send,
            false => Next::Wait,
        }
    }

    /// Bytes the guest has room for beyond what is in flight.
    fn room(&self) -> usize {
        let room = self.window.saturating_sub(self.in_flight());
        let room = usize::try_from(room).unwrap_or(0);
        let flight = usize::try_from(self.in_flight()).unwrap_or(usize::MAX);
        match self.remembers {
            true => room,
            false => room.min(MOST_REPEATED.saturating_sub(flight)),
        }
    }

    /// Sends what waited for the host's socket.
    fn flush(&mut self) -> Next {
        let mut done = 0_usize;
        while let Some(rest) = self.backlog.get(done..).filter(|rest| !rest.is_empty()) {
            let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, rest, flags) {
                Ok(sent) => done = done.saturating_add(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return self.fail(error),
            }
        }
        self.backlog.drain(..done.min(self.backlog.len()));
        if self.backlog.is_empty() {
            self.backlog.shrink_to(0);
            if self.guest_ended && shutdown(&self.socket, Shutdown::Write).is_err() {
                return Next::Reset;
            }
        }
        if self.narrow && self.backlog.len() <= WINDOW / 2 {
            (self.narrow, self.must_acknowledge) = (false, true);
        }
        self.after()
    }

    /// Something happened to the host's socket.
    pub(crate) fn event(&mut self, events: EventFlags) -> Next {
        if events.intersects(EventFlags::ERR | EventFlags::HUP) {
            match sockopt::socket_error(&self.socket) {
                Ok(Ok(())) => {}
                Ok(Err(error)) | Err(error) => return self.fail(error),
            }
        }
        if self.phase == Phase::Connecting {
            if !events.contains(EventFlags::OUT) {
                return Next::Wait;
            }
            self.phase = Phase::Opening { asked: false };
            return Next::Send;
        }
        self.readable |= events.contains(EventFlags::IN);
        self.host_ended |= events.intersects(EventFlags::RDHUP | EventFlags::HUP);
        if events.contains(EventFlags::OUT) && !self.backlog.is_empty() {
            return self.flush();
        }
        match self.phase {
            Phase::Open => self.after(),
            _ => Next::Wait,
        }
    }

    /// Some time has passed.
    pub(crate) fn tick(&mut self) -> Next {
        if self.in_flight() == 0 {
            return Next::Wait;
        }
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks < PATIENCE << self.attempts.min(DOUBLED) {
            return Next::Wait;
        }
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts > ATTEMPTS {
            self.drop_hard();
            return Next::Reset;
        }
        self.ticks = 0;
        self.go_back();
        Next::Send
    }

    /// From now on, what the guest did not acknowledge is sent again.
    fn go_back(&mut self) {
        self.next = self.unacknowledged;
        self.finished = false;
        self.readable = true;
        if self.remembers {
            self.remembers = sys::peek_from(self.socket.as_fd(), 0);
        }
    }

    /// How long the next packet may be: at least, at most.
    pub(crate) fn bounds(&self) -> (usize, usize) {
        let headers = self.headers();
        if self.phase != Phase::Open || !self.readable || self.finished {
            let length = headers.saturating_add(8);
            return (length, length);
        }
        let room = self.room();
        let most = headers.saturating_add(room.min(MOST_DATA));
        (headers.saturating_add(room.min(LEAST_ROOM)), most)
    }

    fn headers(&self) -> usize {
        let ip = wire::ip_length(self.remote.0);
        ETHERNET_LENGTH
            .saturating_add(ip)
            .saturating_add(TCP_LENGTH)
    }
}

/// A sequence number so many bytes on.
fn advance(number: u32, bytes: usize) -> u32 {
    number.wrapping_add(u32::try_from(bytes).unwrap_or(0))
}

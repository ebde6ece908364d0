//! One TCP connection: a guest's end, spoken with here, and a socket of the host's. Refuses to know who may connect where.
//!
//! Between the two there is nothing to lose: what the guest has not acknowledged waits in the host's socket, which is looked at
//! without taking; what the host's socket does not take at once waits in a bounded backlog. So there is no congestion, no
//! reordering and no estimate of times; only a guest that dropped what it was given is given it again.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown, sockopt};
use virtio::{Offload, Reader, Received, Writer};

use crate::sys;
use crate::wire::{self, ETHERNET_LENGTH, Ends, Segment, TCP_LENGTH, flag};

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
/// Ticks without an answer after which the guest is given the same again; doubled each time.
const PATIENCE: u32 = 2;
/// How often it is given the same.
const ATTEMPTS: u32 = 6;
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

    /// The guest sent a segment. Its backlog may grow by `spare` bytes.
    pub(crate) fn hear(&mut self, segment: &Segment, data: Reader<'_>, spare: usize) -> Next {
        let distance = segment.sequence.wrapping_sub(self.expected);
        if segment.has(flag::RST) {
            let expected = match self.phase {
                Phase::Opening { asked: true } => {
                    segment.acknowledged == self.unacknowledged.wrapping_add(1)
                }
                _ => usize::try_from(distance).is_ok_and(|distance| distance <= WINDOW),
            };
            if expected {
                self.drop_hard();
                return Next::End;
            }
            return Next::Wait;
        }
        match self.phase {
            // It repeats itself.
            Phase::Connecting => return Next::Wait,
            Phase::Opening { asked } => {
                let first = self.unacknowledged.wrapping_add(1);
                let whole = segment.has(flag::ACK) && segment.acknowledged == first;
                if !whole || segment.has(flag::SYN) != asked {
                    // Its SYN came again: so goes our answer, which the clock repeats.
                    return Next::Wait;
                }
                if asked {
                    self.hear_syn(segment);
                    self.must_acknowledge = true;
                }
                self.phase = Phase::Open;
                (self.unacknowledged, self.next) = (first, first);
                (self.ticks, self.attempts, self.readable) = (0, 0, true);
            }
            Phase::Open if segment.has(flag::SYN) || !segment.has(flag::ACK) => {
                self.must_acknowledge = true;
                return Next::Send;
            }
            Phase::Open => {}
        }
        let empty = data.left() == 0 && !segment.has(flag::FIN);
        if let Some(next) = self.hear_acknowledgement(segment, empty) {
            return next;
        }
        self.hear_data(segment, data, spare)
    }

    fn hear_acknowledgement(&mut self, segment: &Segment, empty: bool) -> Option<Next> {
        let taken = segment.acknowledged.wrapping_sub(self.unacknowledged);
        if taken > self.in_flight() {
            self.must_acknowledge = true;
            return Some(Next::Send);
        }
        let shift = if segment.has(flag::SYN) {
            0
        } else {
            self.scale.unwrap_or(0)
        };
        let window = u32::from(segment.window) << shift;
        if taken == 0 {
            if empty && self.in_flight() != 0 && window == self.window {
                self.complaints = self.complaints.saturating_add(1);
                if self.complaints == COMPLAINTS {
                    self.go_back();
                }
            }
            self.window = window;
            return None;
        }
        self.window = window;
        (self.complaints, self.ticks, self.attempts) = (0, 0, 0);
        self.unacknowledged = segment.acknowledged;
        let end = u32::from(self.finished && self.in_flight() == 0);
        let data = usize::try_from(taken.wrapping_sub(end)).unwrap_or(0);
        if data != 0 && sys::discard(self.socket.as_fd(), data).is_err() {
            return Some(Next::Reset);
        }
        if !self.remembers {
            // What was too much in flight to go on.
            self.readable = true;
        }
        None
    }

    fn hear_data(&mut self, segment: &Segment, mut data: Reader<'_>, spare: usize) -> Next {
        let length = data.left();
        let known = self.expected.wrapping_sub(segment.sequence);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if length != 0 || segment.has(flag::FIN) {
            self.must_acknowledge = true;
        }
        // From the future, or long past; and nothing comes after an end.
        if known > length || self.guest_ended {
            return self.after();
        }
        let mut scratch = [0; 2048];
        let mut left = known;
        while left != 0 {
            let piece = scratch.len().min(left);
            let read = data.read(scratch.get_mut(..piece).unwrap_or_default());
            left = left.saturating_sub(read.max(1));
        }
        let room = WINDOW.saturating_sub(self.backlog.len());
        let whole = data.left() <= room;
        data.limit(room);
        while self.backlog.is_empty() && data.left() != 0 {
            match data.send(self.socket.as_fd(), data.left()) {
                Ok(sent) => self.expected = advance(self.expected, sent),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return Next::Reset,
            }
        }
        let mut spare = spare;
        while data.left() != 0 && spare != 0 {
            let piece = scratch.len().min(spare);
            let read = data.read(scratch.get_mut(..piece).unwrap_or_default());
            self.backlog.extend(scratch.get(..read).unwrap_or_default());
            self.expected = advance(self.expected, read);
            spare = spare.saturating_sub(read);
        }
        self.narrow |= self.backlog.len() > WINDOW / 2;
        if segment.has(flag::FIN) && whole && data.left() == 0 {
            self.expected = self.expected.wrapping_add(1);
            self.guest_ended = true;
            if let next @ (Next::End | Next::Reset) = self.flush() {
                return next;
            }
        }
        self.after()
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
        match self.must_acknowledge || may_send && self.room() != 0 {
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
                Err(_) => return Next::Reset,
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
            let failed = !matches!(sockopt::socket_error(&self.socket), Ok(Ok(())));
            if failed {
                return Next::Reset;
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
        if self.ticks < PATIENCE << self.attempts {
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

    /// Writes the next packet for the guest, if there is one, and says how to go on. `scratch` is for headers, `known` for
    /// bytes that were looked at before.
    pub(crate) fn write(
        &mut self,
        room: &mut Writer<'_>,
        offload: Offload,
        ends: &Ends,
        known: &mut Vec<u8>,
    ) -> (Option<Received>, Next) {
        let mut segment = self.segment();
        match self.phase {
            Phase::Connecting => return (None, Next::Wait),
            Phase::Opening { asked } => {
                segment.sequence = self.unacknowledged;
                self.next = self.unacknowledged.wrapping_add(1);
                segment.flags = if asked {
                    flag::SYN
                } else {
                    flag::SYN | flag::ACK
                };
                segment.most = u16::try_from(MOST_DATA).ok();
                segment.scale = (asked || self.scale.is_some()).then_some(SCALE);
                let sent = self.put(room, offload, ends, &segment, &[], None);
                return (sent, Next::Wait);
            }
            Phase::Open => {}
        }
        if self.readable && !self.finished && self.room() != 0 {
            match self.write_data(room, offload, ends, known) {
                Ok(None) => self.readable = false,
                Ok(sent) => return (sent, self.after()),
                Err(()) => return (None, Next::Reset),
            }
        }
        if self.host_ended && !self.finished && !self.readable {
            segment.flags |= flag::FIN;
            let sent = self.put(room, offload, ends, &segment, &[], None);
            if sent.is_some() {
                self.finished = true;
                self.next = self.next.wrapping_add(1);
            }
            return (sent, Next::Wait);
        }
        if !self.must_acknowledge {
            return (None, self.after());
        }
        let sent = self.put(room, offload, ends, &segment, &[], None);
        let next = sent.map_or(Next::Wait, |_| self.after());
        (sent, next)
    }

    /// Data of the host's socket, straight into the guest's memory where it takes them without a checksum.
    fn write_data(
        &mut self,
        room: &Writer<'_>,
        offload: Offload,
        ends: &Ends,
        known: &mut Vec<u8>,
    ) -> Result<Option<Received>, ()> {
        let headers = self.headers();
        let most = match offload.segments && offload.checksum {
            true => MOST_DATA,
            false => self.most,
        };
        let space = room.left().saturating_sub(headers);
        let limit = most.min(self.room()).min(space);
        let flight = usize::try_from(self.in_flight()).unwrap_or(0);
        let before = if self.remembers { 0 } else { flight };
        // Without the offload the data comes here first.
        let copied = if offload.checksum { 0 } else { limit };
        known.resize(before.saturating_add(copied), 0);
        // If there is no data, all of the room is left for something else.
        let mut room = room.view(headers.saturating_add(limit));
        let mut front = room.split_off(headers).map_err(|_| ())?;
        let seen = room.peek(self.socket.as_fd(), known, limit.saturating_sub(copied));
        let length = match seen {
            Ok(seen) => seen.saturating_sub(before),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(()),
        };
        if length == 0 {
            return Ok(None);
        }
        // A short look was at the end of what there was; whatever comes later is a new event.
        self.readable = length == limit;
        let mut segment = self.segment();
        segment.flags |= if self.readable { 0 } else { flag::PSH };
        let data = known.get(before..).unwrap_or_default();
        let data = data.get(..length.min(copied)).unwrap_or_default();
        room.write(data);
        let sent = self.put(&mut front, offload, ends, &segment, data, Some(length));
        self.next = advance(self.next, length);
        Ok(sent)
    }

    /// Writes the headers of a segment with `data`, or with so many bytes that are already in place.
    fn put(
        &mut self,
        room: &mut Writer<'_>,
        offload: Offload,
        ends: &Ends,
        segment: &Segment,
        data: &[u8],
        length: Option<usize>,
    ) -> Option<Received> {
        let length = length.unwrap_or(data.len());
        let (headers, sum) = headers(ends, segment, length);
        let start = headers.len().saturating_sub(sum.1);
        let mut headers = headers;
        if !offload.checksum {
            let pseudo = sum.0;
            finish_with(&mut headers, start, pseudo, data);
        }
        if room.write(&headers) != headers.len() {
            return None;
        }
        self.must_acknowledge = false;
        let place = |number: usize| u16::try_from(number).unwrap_or(0);
        let v6 = ends.source.is_ipv6();
        let pieces = (length > self.most).then(|| (place(self.most), place(headers.len()), v6));
        Some(Received {
            length: headers.len().saturating_add(length),
            checksum: offload.checksum.then_some((place(start), 16)),
            segments: pieces,
        })
    }
}

/// All headers of a segment with so much data; the sum over its pseudo header and the length of the TCP header.
pub(crate) fn headers(ends: &Ends, segment: &Segment, data: usize) -> (Vec<u8>, (u16, usize)) {
    let tcp = TCP_LENGTH.saturating_add(wire::options_length(segment));
    let payload = tcp.saturating_add(data);
    let pseudo = ends.pseudo_header(wire::TCP, payload);
    let mut out = Vec::with_capacity(96);
    ends.write(&mut out, wire::TCP, payload);
    wire::write_tcp(&mut out, segment, pseudo);
    (out, (pseudo, tcp))
}

/// Completes the checksum of a TCP header that begins at `start`.
pub(crate) fn finish_with(headers: &mut [u8], start: usize, pseudo: u16, data: &[u8]) {
    let mut sum = wire::Sum::default();
    sum.add(data);
    let mut all = wire::Sum::default();
    all.add(&sum.folded().to_be_bytes());
    all.add(&pseudo.to_be_bytes());
    wire::finish(headers, start, 16, all.folded());
}

/// A sequence number so many bytes on.
fn advance(number: u32, bytes: usize) -> u32 {
    number.wrapping_add(u32::try_from(bytes).unwrap_or(0))
}

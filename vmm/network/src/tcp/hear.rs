//! What a connection makes of the guest's segments.

use std::os::fd::AsFd;

use rustix::io::Errno;
use virtio::Reader;

use super::{COMPLAINTS, Connection, Next, Phase, WINDOW, advance};
use crate::sys;
use crate::wire::{Segment, flag};

impl Connection {
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
        // From the future, or long past; nothing comes after an end, and nobody hears what comes after a failure.
        if known > length || self.guest_ended || self.failed {
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
                Err(error) => return self.fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
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
}

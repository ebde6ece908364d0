//! What a connection sends to the guest: its segments as frames.

use std::os::fd::AsFd;

use virtio::{Offload, Received, Writer};

use super::{Connection, MOST_DATA, Next, Phase, SCALE, advance};
use crate::wire::{self, Ends, Segment, TCP_LENGTH, flag};

impl Connection {
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
        if self.failed && !self.readable {
            return (None, Next::Reset);
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

//! A tap device of the host's as the other end of the guest's cable: each frame goes there as the guest sends it, and comes from there
//! as whoever is behind it does. Refuses to know what is in a frame.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use virtio::{HEADER, Link, Offload, Reader, Received, Writer};

use crate::journal::{Files, Journal};
use crate::sys;
use crate::wire::{self, ETHERNET_LENGTH};

/// Bytes of the longest frame: an IP packet as long as any, and the Ethernet header with a VLAN's tag.
const MOST: usize = 65_535 + ETHERNET_LENGTH + 4;
/// Seconds after which the counts are written.
const COUNTED: i64 = 1;

/// The marks of the device and of the clock.
const DEVICE: u64 = 0;
const CLOCK: u64 = 1;

/// What a frame's header can say (virtio 1.2 §5.1.6): its checksum is not complete, it is TCP to be cut, and that with ECN.
const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_V4: u8 = 1;
const SEGMENTS_V6: u8 = 4;
const ECN: u8 = 0x80;

/// The other end.
#[derive(Debug)]
pub struct Tap {
    device: OwnedFd,
    watch: OwnedFd,
    clock: OwnedFd,
    /// The clock goes.
    timed: bool,
    journal: Journal,
    /// The device may have frames.
    readable: bool,
    /// The frame that waits for the guest with its header, if its length is not 0.
    waiting: Vec<u8>,
    length: usize,
    sent: Vec<u8>,
    /// What the device was told of the guest.
    offload: Offload,
}

impl Tap {
    /// This device, which does not block and wants a header of 12 bytes before each frame.
    ///
    /// # Errors
    /// Those of `epoll_create`, `epoll_ctl` and `timerfd_create`.
    pub fn new(device: OwnedFd, journal: Option<Files>) -> io::Result<Self> {
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let clock = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Frames that the guest has no room for yet wake nobody.
        let events = EventFlags::IN | EventFlags::ET;
        epoll::add(&watch, &device, EventData::new_u64(DEVICE), events)?;
        epoll::add(&watch, &clock, EventData::new_u64(CLOCK), EventFlags::IN)?;
        Ok(Self {
            device,
            watch,
            clock,
            timed: false,
            journal: Journal::new(journal),
            readable: true,
            waiting: vec![0; HEADER + MOST],
            length: 0,
            sent: Vec::new(),
            offload: Offload::default(),
        })
    }

    /// What has passed is written down soon.
    fn count(&mut self) {
        if !self.timed {
            let soon = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec {
                    tv_sec: COUNTED,
                    tv_nsec: 0,
                },
            };
            self.timed = timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &soon).is_ok();
        }
    }

    /// Takes the next frame that can be one.
    fn take(&mut self) {
        while self.readable && self.length == 0 {
            match rustix::io::read(&self.device, &mut self.waiting) {
                Ok(length) if length >= HEADER + ETHERNET_LENGTH => self.length = length,
                Ok(_) => {}
                Err(_) => self.readable = false,
            }
        }
    }

    /// The frame that waits, as the guest can take it.
    fn frame(&mut self, room: &mut Writer<'_>, offload: Offload) -> Option<Received> {
        let length = std::mem::take(&mut self.length);
        let (header, frame) = self.waiting.get_mut(..length)?.split_first_chunk_mut()?;
        let header: [u8; HEADER] = *header;
        let [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1, ..] = header;
        let (start, offset) = (u16::from_le_bytes([c0, c1]), u16::from_le_bytes([o0, o1]));
        let mut checksum = (flags & NEEDS_CHECKSUM != 0).then_some((start, offset));
        let size = (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([h0, h1]));
        let segments = match kind & !ECN {
            0 => None,
            SEGMENTS_V4 if offload.segments => Some((size.0, size.1, false)),
            SEGMENTS_V6 if offload.segments => Some((size.0, size.1, true)),
            _ => return None,
        };
        if !offload.checksum
            && let Some((start, offset)) = checksum.take()
        {
            let at = usize::from(start).checked_add(offset.into())?;
            let field = frame.get(at..)?.first_chunk().copied()?;
            let pseudo = u16::from_be_bytes(field);
            wire::finish(frame, start.into(), offset.into(), pseudo);
        }
        let length = room.write(frame);
        (length == frame.len()).then_some(Received {
            length,
            checksum,
            segments,
        })
    }
}

impl Link for Tap {
    fn fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn ready(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(2);
        if epoll::wait(
            &self.watch,
            spare_capacity(&mut events),
            Some(&Timespec::default()),
        )
        .is_err()
        {
            return;
        }
        for event in &events {
            if event.data.u64() == CLOCK {
                let _ = rustix::io::read(&self.clock, &mut [0; 8]);
                self.timed = false;
                self.journal.write();
            } else {
                self.readable = true;
            }
        }
    }

    fn may_transmit(&mut self) -> bool {
        true
    }

    fn transmit(&mut self, header: [u8; HEADER], mut frame: Reader<'_>) {
        let length = frame.left();
        let [flags, kind, ..] = header;
        let known = matches!(kind & !ECN, 0 | SEGMENTS_V4 | SEGMENTS_V6);
        if flags & !NEEDS_CHECKSUM != 0 || !known || !(ETHERNET_LENGTH..=MOST).contains(&length) {
            return;
        }
        self.sent.clear();
        self.sent.extend(header);
        self.sent.resize(HEADER.saturating_add(length), 0);
        frame.read(self.sent.get_mut(HEADER..).unwrap_or_default());
        // One that it has no room for, or that its kernel takes for none, is lost.
        if rustix::io::write(&self.device, &self.sent).is_ok() {
            let sent = &mut self.journal.counts.sent;
            *sent = sent.saturating_add(u64::try_from(length).unwrap_or(0));
            self.count();
        }
    }

    fn next(&mut self, offload: Offload) -> Option<(usize, usize)> {
        if offload != self.offload {
            // Whoever sends to it is told no less by its kernel. What is on its way is still as before.
            sys::set_offload(self.device.as_fd(), offload.checksum, offload.segments);
            self.offload = offload;
        }
        self.take();
        let length = self.length.checked_sub(HEADER)?;
        Some((length, length))
    }

    fn receive(&mut self, room: &mut Writer<'_>, offload: Offload) -> Option<Received> {
        let received = self.frame(room, offload)?;
        let counted = &mut self.journal.counts.received;
        *counted = counted.saturating_add(u64::try_from(received.length).unwrap_or(0));
        self.count();
        Some(received)
    }

    fn reset(&mut self) {
        // A frame on its way; the device keeps the others, as a card's cable would not.
        self.length = 0;
    }
}

#[cfg(test)]
mod tests;

//! All streams that are open, found by the events of their ends. Knows no process.

use alloc::vec::Vec;
use core::mem;

use protocol::ProcessId;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::failure::{SetupError, refused};
use crate::pump::{End, Progress, Pump};

/// What is watched for at both ends.
const EVENTS: EventFlags = (EventFlags::IN)
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// The pumps, each in a slot of its own for as long as its process is.
#[derive(Debug)]
pub struct Streams {
    /// The token of the first slot's socket; its other end and the next slots follow.
    first_token: u64,
    slots: Vec<Option<Pump>>,
    /// Slots whose process's end was told.
    free: Vec<usize>,
    /// Slots that can go on at once.
    busy: Vec<usize>,
}

impl Streams {
    /// None yet; tokens below `first_token` are someone else's.
    #[must_use]
    pub fn new(first_token: u64) -> Self {
        Self {
            first_token,
            slots: Vec::new(),
            free: Vec::new(),
            busy: Vec::new(),
        }
    }

    /// Takes a pump in and watches both its ends; gives its slot.
    ///
    /// # Errors
    /// Out of memory for watching.
    pub fn add(&mut self, epoll: &OwnedFd, pump: Pump) -> Result<usize, SetupError> {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        for (end, fd) in pump.ends() {
            let token = self.first_token + 2 * slot as u64 + u64::from(end == End::Local);
            epoll::add(epoll, fd, EventData::new_u64(token), EVENTS)
                .map_err(refused("watch a descriptor"))?;
        }
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(pump),
            None => self.slots.push(Some(pump)),
        }
        Ok(slot)
    }

    /// Connects a stream that still carries something to another host.
    ///
    /// # Errors
    /// Out of memory for watching.
    pub fn redial(
        &mut self,
        epoll: &OwnedFd,
        slot: usize,
        process: ProcessId,
        socket: OwnedFd,
    ) -> Result<(), SetupError> {
        let Some(Some(pump)) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        let token = self.first_token + 2 * slot as u64;
        epoll::add(epoll, &socket, EventData::new_u64(token), EVENTS)
            .map_err(refused("watch a descriptor"))?;
        pump.redial(process, socket)
            .map_err(|_| refused("set up a stream")(Errno::INVAL))
    }

    /// Gives streams up: whoever has their other ends is told.
    pub fn drop(&mut self, slots: &[usize]) {
        for slot in slots {
            if let Some(place) = self.slots.get_mut(*slot) {
                *place = None;
            }
        }
    }

    /// Deals with an event of one end.
    pub fn happened(&mut self, token: u64, flags: EventFlags) {
        let number = token.saturating_sub(self.first_token);
        let end = if number.is_multiple_of(2) {
            End::Socket
        } else {
            End::Local
        };
        let slot = usize::try_from(number / 2).unwrap_or(usize::MAX);
        self.advance(slot, |pump| pump.happened(end, flags));
    }

    /// Whether some stream had more than its turn's worth.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Gives each such stream another turn.
    pub fn go_on(&mut self) {
        for slot in mem::take(&mut self.busy) {
            self.advance(slot, Pump::step);
        }
    }

    fn advance(&mut self, slot: usize, step: impl FnOnce(&mut Pump) -> Progress) {
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        match place.as_mut().map(step) {
            Some(Progress::More) if !self.busy.contains(&slot) => self.busy.push(slot),
            Some(Progress::Done) => *place = None,
            _ => {}
        }
    }

    /// Whether a stream still carries something.
    #[must_use]
    pub fn is_open(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(Option::is_some)
    }

    /// Closes the streams of a process that has ended, as far as they are done; whether all are. One that others hold
    /// open is done when nothing is left in it.
    pub fn finish(&mut self, slots: &[usize]) -> bool {
        let mut all = true;
        for slot in slots {
            // The last bytes may have come after this stream's last event was looked at.
            self.advance(*slot, Pump::step);
            let Some(place) = self.slots.get_mut(*slot) else {
                continue;
            };
            match place {
                Some(pump) if pump.is_inward() || pump.is_attached() && pump.is_drained() => {
                    *place = None
                }
                Some(_) => all = false,
                None => {}
            }
        }
        all
    }

    /// Lets others have these slots. Not while events that name them are still to be dealt with.
    pub fn release(&mut self, slots: &[usize]) {
        self.free.extend(slots);
    }
}

//! All streams that are open, found by the events of their ends. Knows no process.

use alloc::vec::Vec;
use core::mem;

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

/// Makes a connection to the host that does not block and may still be under way.
pub type Dial = fn() -> Result<OwnedFd, Errno>;

/// The pumps, each in a slot of its own for as long as its process is.
#[derive(Debug)]
pub struct Streams {
    /// The token of the first slot's socket; its other end and the next slots follow.
    first_token: u64,
    dial: Dial,
    slots: Vec<Slot>,
    /// Slots whose process's end was told.
    free: Vec<usize>,
    /// Slots that can go on at once.
    busy: Vec<usize>,
}

/// A pump's place.
#[derive(Debug)]
struct Slot {
    pump: Option<Pump>,
    /// Whether the host was dialled for it, and it is output: the host waits for such a connection.
    told: bool,
}

impl Streams {
    /// None yet; tokens below `first_token` are someone else's.
    #[must_use]
    pub fn new(first_token: u64, dial: Dial) -> Self {
        Self {
            first_token,
            dial,
            slots: Vec::new(),
            free: Vec::new(),
            busy: Vec::new(),
        }
    }

    /// Takes a pump in and watches its ends; gives its slot.
    ///
    /// # Errors
    /// Out of memory for watching.
    pub fn add(&mut self, epoll: &OwnedFd, pump: Pump) -> Result<usize, SetupError> {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        for (end, fd) in pump.ends() {
            self.watch(epoll, slot, end, fd)?;
        }
        let told = pump.is_connected() && !pump.is_inward();
        let pump = Some(pump);
        let filled = Slot { pump, told };
        match self.slots.get_mut(slot) {
            Some(place) => *place = filled,
            None => self.slots.push(filled),
        }
        Ok(slot)
    }

    fn watch(
        &self,
        epoll: &OwnedFd,
        slot: usize,
        end: End,
        fd: &OwnedFd,
    ) -> Result<(), SetupError> {
        let token = self.first_token + 2 * slot as u64 + u64::from(end == End::Local);
        let token = EventData::new_u64(token);
        epoll::add(epoll, fd, token, EVENTS).map_err(refused("watch a descriptor"))
    }

    /// Dials the host for a pump.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn dial(&self, pump: &mut Pump) -> Result<(), SetupError> {
        let socket = (self.dial)().map_err(refused("dial the host"))?;
        pump.connect(socket)
            .map_err(|_| refused("set up a stream")(Errno::INVAL))
    }

    /// Connects output to the host: what has something to carry, and what had a connection to another host before. What cannot be
    /// connected is given up.
    fn connect(&mut self, epoll: &OwnedFd, slot: usize) -> Result<(), SetupError> {
        let place = self.slots.get_mut(slot);
        let Some(mut pump) = place.and_then(|place| place.pump.take()) else {
            return Ok(());
        };
        self.dial(&mut pump)?;
        for (end, fd) in pump.ends().filter(|(end, _)| *end == End::Socket) {
            self.watch(epoll, slot, end, fd)?;
        }
        if let Some(place) = self.slots.get_mut(slot) {
            (place.pump, place.told) = (Some(pump), true);
        }
        Ok(())
    }

    /// Has output go to another host from now on, if it still carries something.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn redial(&mut self, epoll: &OwnedFd, slot: usize) -> Result<(), SetupError> {
        let Some(place) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        place.told = false;
        match &place.pump {
            // The event of what was written last may have been the other host's.
            Some(pump) if pump.is_connected() || !pump.is_drained() => self.connect(epoll, slot),
            _ => Ok(()),
        }
    }

    /// How many connections the host was made for these streams and waits for.
    #[must_use]
    pub fn told(&self, slots: &[usize]) -> u8 {
        let told = |slot: &&usize| self.slots.get(**slot).is_some_and(|slot| slot.told);
        slots.iter().filter(told).fold(0, |count, _| count + 1)
    }

    /// Gives streams up: whoever has their other ends is told.
    pub fn drop(&mut self, slots: &[usize]) {
        for slot in slots {
            if let Some(place) = self.slots.get_mut(*slot) {
                place.pump = None;
            }
        }
    }

    /// Deals with an event of one end.
    pub fn happened(&mut self, epoll: &OwnedFd, token: u64, flags: EventFlags) {
        let number = token.saturating_sub(self.first_token);
        let end = if number.is_multiple_of(2) {
            End::Socket
        } else {
            End::Local
        };
        let slot = usize::try_from(number / 2).unwrap_or(usize::MAX);
        self.advance(epoll, slot, |pump| pump.happened(end, flags));
    }

    /// Whether some stream had more than its turn's worth.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Gives each such stream another turn.
    pub fn go_on(&mut self, epoll: &OwnedFd) {
        for slot in mem::take(&mut self.busy) {
            self.advance(epoll, slot, Pump::step);
        }
    }

    fn advance(&mut self, epoll: &OwnedFd, slot: usize, step: impl FnOnce(&mut Pump) -> Progress) {
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        match place.pump.as_mut().map(step) {
            Some(Progress::More) if !self.busy.contains(&slot) => self.busy.push(slot),
            Some(Progress::Done) => place.pump = None,
            // Its events tell how it goes on. A process that nobody can be told of finds its pipe broken.
            Some(Progress::Dial) => drop(self.connect(epoll, slot)),
            _ => {}
        }
    }

    /// Whether a stream still carries something.
    #[must_use]
    pub fn is_open(&self, slot: usize) -> bool {
        self.slots
            .get(slot)
            .is_some_and(|place| place.pump.is_some())
    }

    /// Closes the streams of a process that has ended, as far as they are done; whether all are. One that others hold
    /// open is done when nothing is left in it.
    pub fn finish(&mut self, epoll: &OwnedFd, slots: &[usize]) -> bool {
        let mut all = true;
        for slot in slots {
            // The last bytes may have come after this stream's last event was looked at.
            self.advance(epoll, *slot, Pump::step);
            let Some(place) = self.slots.get_mut(*slot) else {
                continue;
            };
            match &place.pump {
                Some(pump) if pump.is_inward() || pump.is_attached() && pump.is_drained() => {
                    place.pump = None
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

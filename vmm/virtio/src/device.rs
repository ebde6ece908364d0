//! What a device model is, and the queues it is lent for one step. Refuses to know registers and snapshots' encoding.

use std::os::fd::BorrowedFd;

use serde::{Serialize, de::DeserializeOwned};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::chain::{Chain, Writer};
use crate::queue::{Queue, Ring};
use crate::{DeviceError, Notify, StateError, sys};

/// Most chains served in one step; then others get their turn.
const CHAINS_A_STEP: usize = 256;

/// Once this many bytes of buffers were served in one step, others get their turn.
const BYTES_A_STEP: usize = 32 << 20;

/// A device model: state and one step. No threads, no locks, no KVM.
pub trait VirtioDevice: Send + 'static {
    /// Device type (virtio 1.2 §5).
    const ID: u32;
    /// Prefix of messages and key in snapshots.
    const NAME: &'static str;
    /// Kernel option without which a guest never starts the device.
    const KERNEL: &'static str;
    /// Largest size of each queue: powers of two.
    const QUEUES: &'static [u16];
    /// Whether a step may wait for the host: such a device is served in a thread of its own.
    const BLOCKS: bool = false;
    /// Facts of the device that a snapshot must carry: no queues, no registers, no host descriptors.
    type State: Serialize + DeserializeOwned;

    /// Feature bits of the device type. The transport adds its own.
    fn features(&self) -> u64 {
        0
    }

    /// The configuration space as the guest reads it now, little-endian.
    fn config(&self) -> impl AsRef<[u8]> {
        [0; 0]
    }

    /// The guest wrote `data` at `offset` of the configuration space.
    fn write_config(&mut self, _offset: usize, _data: &[u8]) {}

    /// The guest notified `queue` of new chains, or the step before had more than its share to do.
    ///
    /// # Errors
    /// What the guest broke; the device is then [`reset`](Self::reset) and stays silent until the driver resets it too.
    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError>;

    /// A descriptor that is readable when the host has something for the device. The same one for the device's whole life.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// [`host_fd`](Self::host_fd) is readable. Also called while the driver is not ready: then queues serve nothing,
    /// and the device must see to it that the descriptor does not stay readable.
    ///
    /// # Errors
    /// As of [`kick`](Self::kick).
    fn host_ready(&mut self, _io: &mut Io<'_>) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Forgets what the driver has asked for and what it was told.
    fn reset(&mut self) {}

    /// What [`restore`](Self::restore) needs.
    fn save(&self) -> Self::State;

    /// Takes on a saved state, on a device built for the same purpose. Nothing in `state` is trusted.
    ///
    /// # Errors
    /// [`StateError::Impossible`]
    fn restore(&mut self, state: Self::State) -> Result<(), StateError>;
}

/// What became of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It goes back to the driver, with this many bytes written into it.
    Done(usize),
    /// There is no use for it yet: it stays first in its queue, and the step ends.
    Later,
}

/// The queues and the memory a device is lent for one step.
pub struct Io<'a> {
    memory: &'a GuestMemoryMmap,
    queues: &'a mut [Queue],
    features: u64,
    notify: &'a dyn Notify,
    /// The driver has to hear of used chains.
    pub(crate) used: bool,
}

impl<'a> Io<'a> {
    /// `queues` is empty while the driver is not ready.
    pub(crate) fn new(
        memory: &'a GuestMemoryMmap,
        queues: &'a mut [Queue],
        features: u64,
        notify: &'a dyn Notify,
    ) -> Self {
        Self {
            memory,
            queues,
            features,
            notify,
            used: false,
        }
    }

    /// Whether the driver is ready, so that queues can serve.
    pub fn is_live(&self) -> bool {
        !self.queues.is_empty()
    }

    /// What device and driver agreed upon.
    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    /// The guest's memory, for devices that are told addresses outside descriptors.
    pub fn memory(&self) -> Memory<'a> {
        Memory(self.memory)
    }

    /// The host side of the device is gone for good. Say it once.
    pub fn hung_up(&self) {
        self.notify.hung_up();
    }

    /// Lends the waiting chains of `queue` to `serve`, one after the other, until none is left, it says
    /// [`Served::Later`], or the step has done its share; in the last case another kick of the queue follows. The
    /// driver is asked for notifications only when none is left, and interrupted at most once a step.
    ///
    /// # Errors
    /// Those of `serve`, and whatever is wrong with the queue.
    pub fn serve(
        &mut self,
        queue: usize,
        mut serve: impl FnMut(&mut Chain<'a>) -> Result<Served, DeviceError>,
    ) -> Result<(), DeviceError> {
        let Some(ready) = self.queues.get_mut(queue).filter(|queue| queue.0.ready) else {
            return Ok(());
        };
        let mut ring = ready.open(queue, self.memory, self.features)?;
        let end = drain(&mut ring, &mut serve)?;
        self.used |= ring.must_interrupt()?;
        if end == End::Share {
            self.notify.kick_again(queue);
        }
        Ok(())
    }
}

/// What has frames for a queue of receive buffers. A frame fills the first buffers and ends in one of them.
pub(crate) trait Frames {
    /// How many bytes the next frame may take: at least, at most. `None`: there is none.
    fn next(&mut self) -> Option<(usize, usize)>;

    /// Writes the next frame and says how long it is and where the count of its buffers (16 bits) belongs. Nothing if there was
    /// none after all, or no room for it, in which case it is gone.
    fn write<'m>(&mut self, room: &mut Writer<'m>) -> Result<Option<Frame<'m>>, DeviceError>;
}

/// A frame that was written.
pub(crate) struct Frame<'m> {
    /// Its bytes.
    pub(crate) length: usize,
    /// Where the count of its buffers goes.
    pub(crate) count: Writer<'m>,
}

impl Io<'_> {
    /// Fills the waiting chains of `queue` with frames: one each, or, if `merge`, as many chains as a frame takes. Ends as
    /// [`serve`](Self::serve) does; while there are too few chains for the next frame, the driver is asked to tell of more.
    ///
    /// # Errors
    /// Those of `frames`, and whatever is wrong with the queue.
    pub(crate) fn fill(
        &mut self,
        queue: usize,
        merge: bool,
        frames: &mut impl Frames,
    ) -> Result<(), DeviceError> {
        let Some(ready) = self.queues.get_mut(queue).filter(|queue| queue.0.ready) else {
            return Ok(());
        };
        let mut ring = ready.open(queue, self.memory, self.features)?;
        let end = pour(&mut ring, merge, frames);
        self.used |= ring.must_interrupt()?;
        if end? == End::Share {
            self.notify.kick_again(queue);
        }
        Ok(())
    }
}

fn pour<'m>(
    ring: &mut Ring<'_, 'm>,
    merge: bool,
    frames: &mut impl Frames,
) -> Result<End, DeviceError> {
    let mut chain = Chain::default();
    // Chains that were read, with their room; those at the front are completed first.
    let mut read: Vec<(u16, usize)> = Vec::new();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    let mut waiting = ring.waiting()?;
    while let Some((least, most)) = frames.next() {
        if count >= CHAINS_A_STEP || bytes >= BYTES_A_STEP {
            return Ok(End::Share);
        }
        loop {
            let have = u16::try_from(read.len()).unwrap_or(u16::MAX);
            let enough = if merge { most } else { 1 };
            if chain.writable.left() >= enough {
                break;
            }
            if have < waiting {
                let before = chain.writable.left();
                let head = ring.append(have, &mut chain)?;
                read.push((head, chain.writable.left().saturating_sub(before)));
                continue;
            }
            waiting = ring.waiting()?;
            if have < waiting {
                continue;
            }
            // A queue that is full with too little room will never have more.
            if chain.writable.left() >= least || have >= ring.size() {
                break;
            }
            if !ring.ask_beyond(waiting)? {
                return Ok(End::Later);
            }
        }
        let mut room = chain.writable.view(if merge { most } else { usize::MAX });
        count = count.saturating_add(1);
        let Some(mut frame) = frames.write(&mut room)? else {
            continue;
        };
        bytes = bytes.saturating_add(frame.length);
        let (mut left, mut used) = (frame.length, 0_usize);
        let mut taken = 0_usize;
        for (_, room) in &mut read {
            used = used.saturating_add(1);
            taken = taken.saturating_add(*room);
            *room = left.min(*room);
            left = left.saturating_sub(*room);
            if left == 0 {
                break;
            }
        }
        let number = u16::try_from(used).unwrap_or(u16::MAX);
        frame.count.write(&number.to_le_bytes());
        ring.complete_all(read.get(..used).unwrap_or_default())?;
        waiting = waiting.saturating_sub(number);
        chain.writable.skip(taken);
        read.drain(..used.min(read.len()));
    }
    Ok(End::Empty)
}

/// The guest's memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'m>(&'m GuestMemoryMmap);

impl Memory<'_> {
    /// Gives the whole pages among these bytes back to the host; private memory then reads as zeros. What is outside
    /// memory is ignored.
    pub fn discard(self, start: u64, length: usize) {
        if let Ok(slice) = self.0.get_slice(GuestAddress(start), length) {
            sys::discard(&slice);
        }
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Empty,
    Later,
    Share,
}

fn drain<'m>(
    ring: &mut Ring<'_, 'm>,
    serve: &mut impl FnMut(&mut Chain<'m>) -> Result<Served, DeviceError>,
) -> Result<End, DeviceError> {
    let mut chain = Chain::default();
    let (mut chains, mut bytes) = (0_usize, 0_usize);
    while ring.is_waiting()? || ring.ask_for_more()? {
        if chains >= CHAINS_A_STEP || bytes >= BYTES_A_STEP {
            return Ok(End::Share);
        }
        let head = ring.first(&mut chain)?;
        chains = chains.saturating_add(1);
        bytes = bytes.saturating_add(chain.len());
        match serve(&mut chain)? {
            Served::Done(written) => ring.complete(head, written)?,
            Served::Later => return Ok(End::Later),
        }
    }
    Ok(End::Empty)
}

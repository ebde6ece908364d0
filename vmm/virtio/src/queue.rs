//! One split virtqueue (virtio 1.2 §2.7), device side: `virtio_queue` works its rings. Refuses to know what the chains mean and
//! who is to be told.
//!
//! That crate is for guests that mean well: it passes over an address that is not aligned, ends a bad chain as if it were a
//! good one, and interrupts without `VIRTIO_F_EVENT_IDX` whatever the driver wants. So what the driver set up, the jumps of its
//! index and its chains are checked here, and what is wrong is an error of the guest's, not a panic of ours.

use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

use crate::chain::Chain;
use crate::{ChainFault, DeviceError};

/// Size in bytes of a descriptor.
const DESCRIPTOR: usize = size_of::<Descriptor>();

/// `VIRTIO_F_INDIRECT_DESC`
pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`
pub(crate) const EVENT_IDX: u64 = 1 << 29;

/// What the driver told of a queue, and where the device is in it. Only its size was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Queue(#[serde(with = "State")] pub(crate) QueueState);

/// [`QueueState`], for serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "QueueState")]
struct State {
    max_size: u16,
    next_avail: u16,
    next_used: u16,
    event_idx_enabled: bool,
    size: u16,
    ready: bool,
    desc_table: u64,
    avail_ring: u64,
    used_ring: u64,
}

impl Queue {
    /// A queue the driver has not set up; `max_size` is the largest it may choose.
    pub(crate) fn new(max_size: u16) -> Self {
        Self(QueueState {
            max_size,
            size: max_size,
            ..QueueState::default()
        })
    }

    /// Whether a driver could have brought a queue that may be `max` long into this state.
    pub(crate) fn is_possible(&self, max: u16) -> bool {
        self.0.max_size == max && self.may_be(self.0.size.into())
    }

    /// Whether the driver may choose this size (virtio 1.2 §2.7).
    pub(crate) fn may_be(&self, size: u32) -> bool {
        size.is_power_of_two() && size <= self.0.max_size.into()
    }

    /// Makes what the driver told into a queue that works, for one step. `index` is for messages.
    pub(crate) fn open<'q, 'm>(
        &'q mut self,
        index: usize,
        memory: &'m GuestMemoryMmap,
        features: u64,
    ) -> Result<Ring<'q, 'm>, DeviceError> {
        let state = &mut self.0;
        state.event_idx_enabled = features & EVENT_IDX != 0;
        let size = usize::from(state.size);
        // Each in one region of memory. `Queue::is_valid` would not say which of them is wrong.
        let find = |ring, address, entry: usize, fixed: usize| {
            let length = size.saturating_mul(entry).saturating_add(fixed);
            memory
                .get_slice(GuestAddress(address), length)
                .map_err(|_| DeviceError::Ring {
                    queue: index,
                    ring,
                    address,
                })
        };
        let table = find("descriptor", state.desc_table, DESCRIPTOR, 0)?;
        let available = find("available", state.avail_ring, 2, 6)?;
        find("used", state.used_ring, 8, 6)?;
        let queue = virtio_queue::Queue::try_from(*state).map_err(|error| DeviceError::Queue {
            queue: index,
            error,
        })?;
        Ok(Ring {
            told: state.next_used,
            state,
            queue,
            index,
            memory,
            features,
            table,
            available,
        })
    }
}

/// A queue at work, its rings in guest memory.
pub(crate) struct Ring<'q, 'm> {
    /// Where `queue` came from, and where its progress goes.
    state: &'q mut QueueState,
    queue: virtio_queue::Queue,
    index: usize,
    memory: &'m GuestMemoryMmap,
    features: u64,
    table: VolatileSlice<'m>,
    available: VolatileSlice<'m>,
    /// Where the used ring ended when the driver was last told, or would have been had it wanted to.
    told: u16,
}

impl<'m> Ring<'_, 'm> {
    /// Whether a chain is waiting.
    pub(crate) fn is_waiting(&self) -> Result<bool, DeviceError> {
        Ok(self.waiting()? != 0)
    }

    /// How many chains are waiting.
    pub(crate) fn waiting(&self) -> Result<u16, DeviceError> {
        let claimed = self.queue.avail_idx(self.memory, Ordering::Acquire);
        let claimed = claimed.map_err(|error| self.failed(error))?.0;
        let seen = self.queue.next_avail();
        let waiting = claimed.wrapping_sub(seen);
        if waiting > self.queue.size() {
            return Err(DeviceError::AvailableIndex {
                queue: self.index,
                seen,
                claimed,
            });
        }
        Ok(waiting)
    }

    /// Length of the queue.
    pub(crate) fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Reads the chain at the head of the queue into `chain` and gives its index in the table. The head moves on with
    /// [`complete`](Self::complete). Only after [`is_waiting`](Self::is_waiting) said yes.
    pub(crate) fn first(&self, chain: &mut Chain<'m>) -> Result<u16, DeviceError> {
        chain.clear();
        self.append(0, chain)
    }

    /// Reads the chain that so many others are before in the queue, into `chain` behind what is there. It must be
    /// [`waiting`](Self::waiting).
    pub(crate) fn append(&self, before: u16, chain: &mut Chain<'m>) -> Result<u16, DeviceError> {
        let place = self.queue.next_avail().wrapping_add(before);
        let entry = place & self.queue.size().wrapping_sub(1);
        let head = self.available(usize::from(entry).saturating_mul(2).saturating_add(4))?;
        self.walk(head, chain).map_err(|fault| self.bad(fault))?;
        Ok(head)
    }

    /// Gives the chain at the head back to the driver with `written` bytes in it, and moves on.
    pub(crate) fn complete(&mut self, head: u16, written: usize) -> Result<(), DeviceError> {
        // A chain holds no more than fits.
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        let added = self.queue.add_used(self.memory, head, written);
        added.map_err(|error| self.failed(error))?;
        let next = self.queue.next_avail().wrapping_add(1);
        self.queue.set_next_avail(next);
        *self.state = self.queue.state();
        Ok(())
    }

    /// Gives the first chains of the queue back at once, each with so many bytes in it: the driver sees all or none of them.
    pub(crate) fn complete_all(&mut self, chains: &[(u16, usize)]) -> Result<(), DeviceError> {
        let Some((&(head, written), before)) = chains.split_last() else {
            return Ok(());
        };
        let (size, ring) = (self.queue.size(), self.state.used_ring);
        for &(head, written) in before {
            let next = self.queue.next_used();
            let entry = u64::from(next & size.wrapping_sub(1)).saturating_mul(8);
            let place = GuestAddress(ring.saturating_add(4).saturating_add(entry));
            let written = u32::try_from(written).unwrap_or(u32::MAX);
            let element = u64::from(written) << 32 | u64::from(head);
            self.memory
                .write_obj(element.to_le(), place)
                .map_err(|_| self.bad(ChainFault::Memory))?;
            self.queue.set_next_used(next.wrapping_add(1));
            let next = self.queue.next_avail().wrapping_add(1);
            self.queue.set_next_avail(next);
        }
        self.complete(head, written)
    }

    /// Asks for a notification of the chain after the next `waiting`, and says whether it has come meanwhile.
    pub(crate) fn ask_beyond(&mut self, waiting: u16) -> Result<bool, DeviceError> {
        let next = self.queue.next_avail();
        self.queue.set_next_avail(next.wrapping_add(waiting));
        let more = self.queue.enable_notification(self.memory);
        self.queue.set_next_avail(next);
        more.map_err(|error| self.failed(error))?;
        Ok(self.waiting()? > waiting)
    }

    /// Asks for a notification of the next chain (virtio 1.2 §2.7.10) and looks once more: `true` if one has come meanwhile.
    pub(crate) fn ask_for_more(&mut self) -> Result<bool, DeviceError> {
        let more = self.queue.enable_notification(self.memory);
        Ok(more.map_err(|error| self.failed(error))? && self.is_waiting()?)
    }

    /// Whether the driver wants to hear of what was completed since it was last told (virtio 1.2 §2.7.7). Asking counts as
    /// telling.
    pub(crate) fn must_interrupt(&mut self) -> Result<bool, DeviceError> {
        let used = self.queue.next_used();
        let told = std::mem::replace(&mut self.told, used);
        if told == used {
            return Ok(false);
        }
        // What the driver wants is read after what it is given was written.
        fence(Ordering::SeqCst);
        if self.queue.event_idx_enabled() {
            // The crate counts what it completed itself, and `complete_all` did some.
            let place = usize::from(self.queue.size()).saturating_mul(2);
            let event = self.available(place.saturating_add(4))?;
            let since = used.wrapping_sub(event).wrapping_sub(1);
            return Ok(since < used.wrapping_sub(told));
        }
        // `VIRTQ_AVAIL_F_NO_INTERRUPT`
        Ok(self.available(0)? & 1 == 0)
    }

    fn walk(&self, head: u16, chain: &mut Chain<'m>) -> Result<(), ChainFault> {
        let mut table = self.table;
        let mut indirect = false;
        let mut next = head;
        // One more than the queue is long: the descriptor that names the indirect table does not count.
        let mut left = u32::from(self.queue.size()).saturating_add(1);
        loop {
            left = left.checked_sub(1).ok_or(ChainFault::TooLong)?;
            let descriptor: Descriptor = table
                .read_obj(usize::from(next).saturating_mul(DESCRIPTOR))
                .map_err(|_| ChainFault::Index)?;
            if descriptor.refers_to_indirect_table() {
                let length = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
                if indirect
                    || self.features & INDIRECT_DESC == 0
                    || descriptor.has_next()
                    || length == 0
                    || !length.is_multiple_of(DESCRIPTOR)
                {
                    return Err(ChainFault::Indirect);
                }
                table = self
                    .memory
                    .get_slice(descriptor.addr(), length)
                    .map_err(|_| ChainFault::Memory)?;
                (indirect, next) = (true, 0);
                continue;
            }
            if !indirect && left == 0 {
                return Err(ChainFault::TooLong);
            }
            chain.push(
                self.memory,
                descriptor.addr(),
                descriptor.len(),
                descriptor.is_write_only(),
            )?;
            if !descriptor.has_next() {
                return Ok(());
            }
            next = descriptor.next();
        }
    }

    /// A field of the available ring.
    fn available(&self, offset: usize) -> Result<u16, DeviceError> {
        let field = self.available.load(offset, Ordering::Relaxed);
        field
            .map(u16::from_le)
            .map_err(|_| self.bad(ChainFault::Memory))
    }

    fn bad(&self, fault: ChainFault) -> DeviceError {
        DeviceError::Chain {
            queue: self.index,
            fault,
        }
    }

    fn failed(&self, error: virtio_queue::Error) -> DeviceError {
        DeviceError::Queue {
            queue: self.index,
            error,
        }
    }
}

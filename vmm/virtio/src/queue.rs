//! One split virtqueue (virtio 1.2 §2.7), device side. Refuses to know what the chains mean and who is to be told.
//!
//! Ring fields are read once into copies and never believed: an index outside the table, a loop or a jump of the
//! available index is an error of the guest's, not a panic of ours.

use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};
use vm_memory::{
    AtomicAccess, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice,
};

use crate::chain::Chain;
use crate::{ChainFault, DeviceError};

/// Size in bytes of a descriptor.
pub(crate) const DESCRIPTOR: usize = 16;

/// Buffer continues in the descriptor `next` (virtio 1.2 §2.7.5).
pub(crate) const NEXT: u16 = 1;
/// Buffer is device-writable, else device-readable.
pub(crate) const WRITE: u16 = 2;
/// Buffer holds a table of descriptors (virtio 1.2 §2.7.5.3).
pub(crate) const INDIRECT: u16 = 4;

/// `VIRTIO_F_INDIRECT_DESC`
pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`
pub(crate) const EVENT_IDX: u64 = 1 << 29;

/// What the driver told of a queue, and where the device is in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) size: u16,
    pub(crate) ready: bool,
    pub(crate) table: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    /// Next entry of the available ring to take.
    next_available: u16,
    /// Next entry of the used ring to fill.
    next_used: u16,
    /// `next_used` when the driver was last told, or would have been had it wanted to.
    told: u16,
}

impl Queue {
    /// A queue the driver has not set up; `size` is the largest it may choose.
    pub(crate) fn new(size: u16) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// Whether a driver could have brought a queue that may be `max` long into this state.
    pub(crate) fn is_possible(&self, max: u16) -> bool {
        Self::is_size(self.size.into(), max)
    }

    /// Whether `size` is one that a driver may choose (virtio 1.2 §2.7).
    pub(crate) fn is_size(size: u32, max: u16) -> bool {
        size.is_power_of_two() && size <= max.into()
    }

    /// Finds the rings in memory, for one step. `index` is for messages.
    pub(crate) fn open<'q, 'm>(
        &'q mut self,
        index: usize,
        memory: &'m GuestMemoryMmap,
        features: u64,
    ) -> Result<Ring<'q, 'm>, DeviceError> {
        let size = usize::from(self.size);
        let find = |ring, address: u64, align: u64, entry: usize, fixed: usize| {
            let length = size.saturating_mul(entry).saturating_add(fixed);
            memory
                .get_slice(GuestAddress(address), length)
                .ok()
                .filter(|_| address.is_multiple_of(align))
                .ok_or(DeviceError::Ring {
                    queue: index,
                    ring,
                    address,
                })
        };
        let table = find("descriptor", self.table, 16, DESCRIPTOR, 0)?;
        let available = find("available", self.available, 2, 2, 6)?;
        let used = find("used", self.used, 4, 8, 6)?;
        Ok(Ring {
            seen: self.next_available,
            queue: self,
            index,
            memory,
            features,
            table,
            available,
            used,
        })
    }
}

/// A queue together with its rings in guest memory.
pub(crate) struct Ring<'q, 'm> {
    queue: &'q mut Queue,
    index: usize,
    memory: &'m GuestMemoryMmap,
    features: u64,
    table: VolatileSlice<'m>,
    available: VolatileSlice<'m>,
    used: VolatileSlice<'m>,
    /// The driver's available index as last read.
    seen: u16,
}

impl<'m> Ring<'_, 'm> {
    /// Whether a chain is waiting; looks at the driver's index only when all it was last seen to offer is taken.
    pub(crate) fn is_waiting(&mut self) -> Result<bool, DeviceError> {
        if self.seen != self.queue.next_available {
            return Ok(true);
        }
        let claimed = u16::from_le(self.load(&self.available, 2, Ordering::Acquire)?);
        if claimed.wrapping_sub(self.queue.next_available) > self.queue.size {
            return Err(DeviceError::AvailableIndex {
                queue: self.index,
                seen: self.queue.next_available,
                claimed,
            });
        }
        self.seen = claimed;
        Ok(claimed != self.queue.next_available)
    }

    /// Reads the chain at the head of the queue into `chain` and gives its index in the table. The head moves on with
    /// [`complete`](Self::complete). Only after [`is_waiting`](Self::is_waiting) said yes.
    pub(crate) fn first(&self, chain: &mut Chain<'m>) -> Result<u16, DeviceError> {
        let entry = self.slot(self.queue.next_available, 2);
        let head = u16::from_le(self.load(&self.available, entry, Ordering::Relaxed)?);
        chain.clear();
        self.walk(head, chain).map_err(|fault| self.bad(fault))?;
        Ok(head)
    }

    /// Gives the chain at the head back to the driver with `written` bytes in it, and moves on.
    pub(crate) fn complete(&mut self, head: u16, written: usize) -> Result<(), DeviceError> {
        let entry = self.slot(self.queue.next_used, 8);
        let id = u32::from(head).to_le();
        // A chain holds no more than fits.
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.store(entry, id, Ordering::Relaxed)?;
        self.store(entry.saturating_add(4), written.to_le(), Ordering::Relaxed)?;
        self.queue.next_available = self.queue.next_available.wrapping_add(1);
        self.queue.next_used = self.queue.next_used.wrapping_add(1);
        self.store(2, self.queue.next_used.to_le(), Ordering::Release)
    }

    /// Asks for a notification of the next chain (virtio 1.2 §2.7.10) and looks once more: `true` if one has come meanwhile.
    pub(crate) fn ask_for_more(&mut self) -> Result<bool, DeviceError> {
        if self.features & EVENT_IDX != 0 {
            let event = self.used.len().saturating_sub(2);
            self.store(event, self.queue.next_available.to_le(), Ordering::Relaxed)?;
        }
        // The driver writes its index, then reads our event; we write our event, then read its index.
        fence(Ordering::SeqCst);
        self.is_waiting()
    }

    /// Whether the driver wants to hear of what was completed since it was last told (virtio 1.2 §2.7.7). Asking counts as
    /// telling.
    pub(crate) fn must_interrupt(&mut self) -> Result<bool, DeviceError> {
        let (new, old) = (self.queue.next_used, self.queue.told);
        if new == old {
            return Ok(false);
        }
        self.queue.told = new;
        fence(Ordering::SeqCst);
        if self.features & EVENT_IDX == 0 {
            let flags = u16::from_le(self.load(&self.available, 0, Ordering::Relaxed)?);
            return Ok(flags & 1 == 0);
        }
        let event = self.available.len().saturating_sub(2);
        let event = u16::from_le(self.load(&self.available, event, Ordering::Relaxed)?);
        // Whether `event` is one of old..new, on the circle of 16 bits.
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }

    fn walk(&self, head: u16, chain: &mut Chain<'m>) -> Result<(), ChainFault> {
        let mut table = self.table;
        let mut indirect = false;
        let mut next = head;
        // One more than the queue is long: the descriptor that names the indirect table does not count.
        let mut left = u32::from(self.queue.size).saturating_add(1);
        loop {
            left = left.checked_sub(1).ok_or(ChainFault::TooLong)?;
            let descriptor = Descriptor::read(&table, next)?;
            if descriptor.flags & INDIRECT != 0 {
                let length = usize::try_from(descriptor.length).unwrap_or(usize::MAX);
                if indirect
                    || self.features & INDIRECT_DESC == 0
                    || descriptor.flags & NEXT != 0
                    || length == 0
                    || !length.is_multiple_of(DESCRIPTOR)
                {
                    return Err(ChainFault::Indirect);
                }
                table = self
                    .memory
                    .get_slice(GuestAddress(descriptor.address), length)
                    .map_err(|_| ChainFault::Memory)?;
                (indirect, next) = (true, 0);
                continue;
            }
            if !indirect && left == 0 {
                return Err(ChainFault::TooLong);
            }
            chain.push(
                self.memory,
                descriptor.address,
                descriptor.length,
                descriptor.flags & WRITE != 0,
            )?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            next = descriptor.next;
        }
    }

    /// Offset of an entry of `size` bytes in the available or used ring.
    fn slot(&self, index: u16, size: usize) -> usize {
        let entry = index & self.queue.size.wrapping_sub(1);
        usize::from(entry).saturating_mul(size).saturating_add(4)
    }

    fn load<T: AtomicAccess>(
        &self,
        ring: &VolatileSlice<'m>,
        offset: usize,
        order: Ordering,
    ) -> Result<T, DeviceError> {
        ring.load(offset, order)
            .map_err(|_| self.bad(ChainFault::Memory))
    }

    fn store<T: AtomicAccess>(
        &self,
        offset: usize,
        value: T,
        order: Ordering,
    ) -> Result<(), DeviceError> {
        self.used
            .store(value, offset, order)
            .map_err(|_| self.bad(ChainFault::Memory))
    }

    fn bad(&self, fault: ChainFault) -> DeviceError {
        DeviceError::Chain {
            queue: self.index,
            fault,
        }
    }
}

struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(table: &VolatileSlice<'_>, index: u16) -> Result<Self, ChainFault> {
        let mut bytes = [0; DESCRIPTOR];
        let offset = usize::from(index).saturating_mul(DESCRIPTOR);
        table
            .read_slice(&mut bytes, offset)
            .map_err(|_| ChainFault::Index)?;
        let [
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            l0,
            l1,
            l2,
            l3,
            f0,
            f1,
            n0,
            n1,
        ] = bytes;
        Ok(Self {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        })
    }
}

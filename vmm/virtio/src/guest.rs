//! The guest's side of a slot, for tests and fuzzing: a driver that negotiates, fills queues and takes answers. Refuses to know
//! what the answers should be.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a driver made for tests may panic"
)]
#![cfg_attr(not(test), expect(dead_code, reason = "fuzzing takes no answers"))]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::queue::{EVENT_IDX, INDIRECT_DESC};
use crate::{DeviceError, Mmio, Notify, QUEUE_NOTIFY, Slot, VirtioDevice};

/// Flags of a descriptor (virtio 1.2 §2.7.5): it goes on in `next`, is for the device to write, holds a table.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Regions of memory: two that adjoin and one far away.
pub(crate) const REGIONS: [(u64, usize); 3] =
    [(0, 16 << 20), (16 << 20, 1 << 20), (4 << 30, 1 << 20)];
/// From here on, memory is for buffers.
const BUFFERS: u64 = 1 << 20;
/// Rings of a queue take up this much from its number on.
const RINGS: usize = 0x10000;

/// What the slot told the machine.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) interrupts: AtomicUsize,
    pub(crate) again: Mutex<Vec<usize>>,
    pub(crate) broken: Mutex<Vec<String>>,
    pub(crate) hung_up: AtomicBool,
}

impl Notify for Told {
    fn interrupt(&self) {
        self.interrupts.fetch_add(1, Ordering::SeqCst);
    }

    fn kick_again(&self, queue: usize) {
        self.again.lock().unwrap().push(queue);
    }

    fn kick_server(&self, queue: usize) {
        self.kick_again(queue);
    }

    fn broken(&self, error: &DeviceError) {
        self.broken.lock().unwrap().push(error.to_string());
    }

    fn hung_up(&self) {
        assert!(!self.hung_up.swap(true, Ordering::SeqCst), "said twice");
    }
}

/// A guest with one device.
pub(crate) struct Guest {
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) told: Arc<Told>,
    pub(crate) slot: Arc<dyn Slot>,
    pub(crate) features: u64,
    queues: Vec<DriverQueue>,
    next_buffer: u64,
}

#[derive(Default)]
struct DriverQueue {
    size: u16,
    free: Vec<u16>,
    offered: u16,
    taken: u16,
    chains: HashMap<u16, Offer>,
}

struct Offer {
    descriptors: Vec<u16>,
    writable: Vec<(u64, u32)>,
}

/// A chain the device gave back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: u16,
    /// What the device says it has written.
    pub(crate) length: u32,
    /// All the writable part.
    pub(crate) bytes: Vec<u8>,
}

impl Guest {
    /// A guest with memory of zeros, its driver not started.
    pub(crate) fn new<D: VirtioDevice>(device: D) -> Self {
        let regions = REGIONS.map(|(start, length)| (GuestAddress(start), length));
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
        let told = Arc::new(Told::default());
        let slot = Mmio::new(device, Arc::clone(&memory), told.clone());
        Self {
            memory,
            told,
            slot,
            features: 0,
            queues: Vec::new(),
            next_buffer: BUFFERS,
        }
    }

    /// The same guest, plugged into another device.
    pub(crate) fn move_to<D: VirtioDevice>(&mut self, device: D) {
        self.told = Arc::new(Told::default());
        self.slot = Mmio::new(device, Arc::clone(&self.memory), self.told.clone());
    }

    pub(crate) fn read(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.slot.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn write(&self, offset: u64, value: u32) {
        self.slot.write(offset, &value.to_le_bytes());
    }

    /// All features the device offers.
    pub(crate) fn offered(&self) -> u64 {
        self.write(0x14, 0);
        let low = self.read(0x10);
        self.write(0x14, 1);
        u64::from(self.read(0x10)) << 32 | u64::from(low)
    }

    /// Brings the device up with all it offers.
    pub(crate) fn start(&mut self) {
        self.start_with(self.offered());
    }

    /// Brings the device up with these features, from a reset.
    pub(crate) fn start_with(&mut self, features: u64) {
        self.write(0x70, 0);
        self.write(0x70, 1);
        self.write(0x70, 3);
        self.write(0x24, 0);
        self.write(0x20, u32::try_from(features & 0xffff_ffff).unwrap());
        self.write(0x24, 1);
        self.write(0x20, u32::try_from(features >> 32).unwrap());
        self.write(0x70, 11);
        self.features = features;
        self.queues.clear();
        self.next_buffer = BUFFERS;
        for index in 0..self.slot.queue_count() {
            self.set_up_queue(index);
        }
        self.write(0x70, 15);
    }

    fn set_up_queue(&mut self, index: usize) {
        self.write(0x30, u32::try_from(index).unwrap());
        let size = u16::try_from(self.read(0x34)).unwrap();
        self.write(0x38, size.into());
        let base = self.rings(index);
        for (register, address) in [(0x80, base), (0x90, base + 0x4000), (0xa0, base + 0x8000)] {
            self.write(register, u32::try_from(address & 0xffff_ffff).unwrap());
            self.write(register + 4, u32::try_from(address >> 32).unwrap());
        }
        self.memory
            .write_slice(&[0; RINGS], GuestAddress(base))
            .unwrap();
        self.write(0x44, 1);
        self.queues.push(DriverQueue {
            size,
            free: (0..size).rev().collect(),
            ..DriverQueue::default()
        });
    }

    /// Where the rings of a queue are: descriptors here, available at +0x4000, used at +0x8000.
    pub(crate) fn rings(&self, queue: usize) -> u64 {
        (queue * RINGS) as u64
    }

    /// `NEEDS_RESET`
    pub(crate) fn is_broken(&self) -> bool {
        self.read(0x70) & 64 != 0
    }

    /// Reads and acknowledges the interrupt status.
    pub(crate) fn interrupt(&self) -> u32 {
        let status = self.read(0x60);
        self.write(0x64, status);
        status
    }

    /// Room for `length` bytes in memory; it is reused after a while.
    pub(crate) fn buffer(&mut self, length: usize) -> u64 {
        let end = REGIONS[0].1 as u64;
        assert!((length as u64) < end - BUFFERS, "too long for a test");
        if self.next_buffer + length as u64 > end {
            self.next_buffer = BUFFERS;
        }
        self.next_buffer += length as u64;
        self.next_buffer - length as u64
    }

    /// Offers a chain with these readable buffers, then writable ones of these lengths.
    pub(crate) fn offer(&mut self, queue: usize, readable: &[&[u8]], writable: &[usize]) -> u16 {
        let mut buffers = Vec::new();
        for bytes in readable {
            let address = self.buffer(bytes.len());
            self.memory
                .write_slice(bytes, GuestAddress(address))
                .unwrap();
            buffers.push((address, u32::try_from(bytes.len()).unwrap(), 0));
        }
        for &length in writable {
            let address = self.buffer(length);
            buffers.push((address, u32::try_from(length).unwrap(), WRITE));
        }
        self.offer_buffers(queue, &buffers)
    }

    /// Offers a chain of buffers (address, length, flags) as they are, through an indirect table if the driver has it
    /// and there are two or more.
    pub(crate) fn offer_buffers(&mut self, queue: usize, buffers: &[(u64, u32, u16)]) -> u16 {
        let indirect = self.features & INDIRECT_DESC != 0 && buffers.len() > 1;
        let table = match indirect {
            true => self.buffer(buffers.len() * 16 + 16).next_multiple_of(16),
            false => self.rings(queue),
        };
        let count = if indirect { 1 } else { buffers.len() };
        let driver = &mut self.queues[queue];
        let descriptors = driver.free.split_off(driver.free.len() - count);
        let places: Vec<u16> = match indirect {
            true => (0..u16::try_from(buffers.len()).unwrap()).collect(),
            false => descriptors.clone(),
        };
        for (position, &(address, length, flags)) in buffers.iter().enumerate() {
            let next = places.get(position + 1);
            let flags = flags | next.map_or(0, |_| NEXT);
            let at = table + u64::from(places[position]) * 16;
            self.write_descriptor(at, address, length, flags, next.copied().unwrap_or(0));
        }
        let head = descriptors[0];
        if indirect {
            let at = self.rings(queue) + u64::from(head) * 16;
            let length = u32::try_from(buffers.len() * 16).unwrap();
            self.write_descriptor(at, table, length, INDIRECT, 0);
        }
        let writable = (buffers.iter())
            .filter(|(_, _, flags)| flags & WRITE != 0)
            .map(|&(address, length, _)| (address, length))
            .collect();
        let offer = Offer {
            descriptors,
            writable,
        };
        self.queues[queue].chains.insert(head, offer);
        self.publish(queue, head);
        head
    }

    pub(crate) fn write_descriptor(
        &self,
        at: u64,
        address: u64,
        length: u32,
        flags: u16,
        next: u16,
    ) {
        let fields: [&[u8]; 4] = [
            &address.to_le_bytes(),
            &length.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ];
        self.memory
            .write_slice(&fields.concat(), GuestAddress(at))
            .unwrap();
    }

    /// Puts a head into the available ring, whatever it is.
    pub(crate) fn publish(&mut self, queue: usize, head: u16) {
        let ring = self.rings(queue) + 0x4000;
        let driver = &mut self.queues[queue];
        let entry = ring + 4 + u64::from(driver.offered % driver.size) * 2;
        driver.offered = driver.offered.wrapping_add(1);
        self.memory.write_obj(head, GuestAddress(entry)).unwrap();
        self.memory
            .write_obj(driver.offered, GuestAddress(ring + 2))
            .unwrap();
    }

    /// Notifies the device if it wants to hear of what was offered since `before`, and says whether.
    pub(crate) fn kick_if_wanted(&mut self, queue: usize, before: u16) -> bool {
        let driver = &self.queues[queue];
        let event = self.rings(queue) + 0x8000 + 4 + u64::from(driver.size) * 8;
        let event: u16 = self.memory.read_obj(GuestAddress(event)).unwrap();
        let now = driver.offered;
        let wanted = self.features & EVENT_IDX == 0
            || now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before);
        if wanted {
            self.kick(queue);
        }
        wanted
    }

    /// Notifies the device, and again for as long as it asks for that.
    pub(crate) fn kick(&self, queue: usize) {
        self.write(QUEUE_NOTIFY, u32::try_from(queue).unwrap());
        self.settle();
    }

    /// The host's side is ready.
    pub(crate) fn host_ready(&self) {
        self.slot.host_ready();
        self.settle();
    }

    fn settle(&self) {
        loop {
            let Some(queue) = self.told.again.lock().unwrap().pop() else {
                return;
            };
            self.slot.kick(queue);
        }
    }

    /// Whether the driver has come as far as to have queues.
    pub(crate) fn is_set_up(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Whether a chain of so many buffers can be offered.
    pub(crate) fn may_offer(&self, queue: usize, buffers: usize) -> bool {
        (self.queues.get(queue)).is_some_and(|driver| driver.free.len() >= buffers)
    }

    /// How many chains are with the device.
    pub(crate) fn outstanding(&self, queue: usize) -> usize {
        self.queues[queue].chains.len()
    }

    /// How many chains were offered so far.
    pub(crate) fn offered_chains(&self, queue: usize) -> u16 {
        self.queues[queue].offered
    }

    /// Wants an interrupt once the device has used this many more chains than the driver took.
    pub(crate) fn want_interrupt_after(&self, queue: usize, chains: u16) {
        let driver = &self.queues[queue];
        let event = self.rings(queue) + 0x4000 + 4 + u64::from(driver.size) * 2;
        let value = driver.taken.wrapping_add(chains).wrapping_sub(1);
        self.memory.write_obj(value, GuestAddress(event)).unwrap();
    }

    /// Takes the next chain the device gave back.
    pub(crate) fn take(&mut self, queue: usize) -> Option<Answer> {
        let ring = self.rings(queue) + 0x8000;
        let driver = &mut self.queues[queue];
        if self.memory.read_obj::<u16>(GuestAddress(ring + 2)).unwrap() == driver.taken {
            return None;
        }
        let entry = ring + 4 + u64::from(driver.taken % driver.size) * 8;
        driver.taken = driver.taken.wrapping_add(1);
        let head = self.memory.read_obj::<u32>(GuestAddress(entry)).unwrap();
        let length = self.memory.read_obj(GuestAddress(entry + 4)).unwrap();
        let head = u16::try_from(head).unwrap();
        let offer = driver.chains.remove(&head).unwrap();
        driver.free.extend(offer.descriptors);
        let mut bytes = Vec::new();
        for (address, length) in offer.writable {
            let start = bytes.len();
            bytes.resize(start + length as usize, 0);
            self.memory
                .read_slice(&mut bytes[start..], GuestAddress(address))
                .unwrap();
        }
        Some(Answer {
            head,
            length,
            bytes,
        })
    }

    /// Offers a chain, notifies, and takes the answer that must be there.
    pub(crate) fn exchange(
        &mut self,
        queue: usize,
        readable: &[&[u8]],
        writable: &[usize],
    ) -> Answer {
        let head = self.offer(queue, readable, writable);
        self.kick(queue);
        let answer = self.take(queue).unwrap();
        assert_eq!(answer.head, head);
        answer
    }
}

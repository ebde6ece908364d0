//! The flows of a guest: found by what a packet says or by number, bounded, each waiting at most once for its turn to send.
//! Refuses to know protocols.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// What tells the flows of one guest apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) protocol: u8,
    /// The guest's port.
    pub(crate) guest: u16,
    /// The other end, as the guest sees it.
    pub(crate) remote: (IpAddr, u16),
}

/// All flows, of kind `F`.
#[derive(Debug)]
pub(crate) struct Flows<F> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    index: HashMap<Key, usize>,
    queue: VecDeque<usize>,
    most: usize,
}

#[derive(Debug)]
struct Slot<F> {
    key: Option<Key>,
    flow: Option<F>,
    queued: bool,
}

impl<F> Flows<F> {
    /// No flows yet, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            queue: VecDeque::new(),
            most,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.most
    }

    /// The number that the next flow gets.
    pub(crate) fn next_number(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// Adds a flow, if there are not too many.
    pub(crate) fn insert(&mut self, key: Option<Key>, flow: F) -> Option<usize> {
        if self.is_full() {
            return None;
        }
        let slot = Slot {
            key,
            flow: Some(flow),
            queued: false,
        };
        let number = self.next_number();
        match self.free.pop() {
            Some(_) => {
                if let Some(place) = self.slots.get_mut(number) {
                    *place = slot;
                }
            }
            None => self.slots.push(slot),
        }
        if let Some(key) = key {
            self.index.insert(key, number);
        }
        Some(number)
    }

    pub(crate) fn find(&self, key: &Key) -> Option<usize> {
        self.index.get(key).copied()
    }

    pub(crate) fn get(&mut self, number: usize) -> Option<(Option<Key>, &mut F)> {
        let slot = self.slots.get_mut(number)?;
        Some((slot.key, slot.flow.as_mut()?))
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<F> {
        let slot = self.slots.get_mut(number)?;
        let flow = slot.flow.take()?;
        if let Some(key) = slot.key.take() {
            self.index.remove(&key);
        }
        // Whoever is in the queue still is taken out of it later.
        if !slot.queued {
            self.free.push(number);
        }
        Some(flow)
    }

    /// All numbers there are, in use or not.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    /// The flow has something to send.
    pub(crate) fn enqueue(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number)
            && slot.flow.is_some()
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.queue.push_back(number);
        }
    }

    /// Whose turn it is.
    pub(crate) fn first(&mut self) -> Option<usize> {
        loop {
            let number = *self.queue.front()?;
            match self.slots.get(number) {
                Some(slot) if slot.flow.is_some() => return Some(number),
                _ => self.dequeue(),
            }
        }
    }

    /// Its turn is over.
    pub(crate) fn dequeue(&mut self) {
        if let Some(number) = self.queue.pop_front()
            && let Some(slot) = self.slots.get_mut(number)
        {
            slot.queued = false;
            if slot.flow.is_none() {
                self.free.push(number);
            }
        }
    }
}

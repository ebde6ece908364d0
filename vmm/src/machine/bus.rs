//! Which device answers an access outside memory. What nobody answers reads as all ones; writes to it vanish.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio::{Slot, WINDOW};

use super::layout;
use super::uart::{self, Uart};

/// The keyboard controller's command port, of which only the reset line exists.
const KEYBOARD: u16 = 0x64;
/// Pulses the reset line.
const RESET: u8 = 0xfe;

/// Everything but memory and what KVM answers itself.
pub(crate) struct Bus {
    slots: Vec<Arc<dyn Slot>>,
    uart: Mutex<Uart>,
    late: Mutex<()>,
}

/// The guest pulled the reset line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reset;

impl Bus {
    /// A bus with these devices in windows one after the other.
    pub(crate) fn new(slots: Vec<Arc<dyn Slot>>, uart: Uart) -> Self {
        Self {
            slots,
            uart: Mutex::new(uart),
            late: Mutex::new(()),
        }
    }

    /// The guest reads outside memory.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        match self.at(address, data.len()) {
            Some((slot, offset)) => slot.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes outside memory.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((slot, offset)) = self.at(address, data.len()) {
            slot.write(offset, data);
        }
    }

    /// Held by the processor that brings what KVM let wait: one at a time, and the others wait until it is there.
    pub(crate) fn late(&self) -> MutexGuard<'_, ()> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest reads a port.
    pub(crate) fn port_read(&self, port: u16, data: &mut [u8]) {
        match (port, data) {
            (uart::FIRST..=uart::LAST, [byte]) => *byte = self.uart().read(port),
            // Its input buffer is always empty: kernels wait for that before they pull the reset line.
            (KEYBOARD, [byte]) => *byte = 0,
            (_, data) => data.fill(0xff),
        }
    }

    /// The guest writes a port.
    pub(crate) fn port_write(&self, port: u16, data: &[u8]) -> Option<Reset> {
        match (port, data) {
            (uart::FIRST..=uart::LAST, [byte]) => self.uart().write(port, *byte),
            (KEYBOARD, [RESET]) => return Some(Reset),
            _ => {}
        }
        None
    }

    /// The guest kernel's panic message.
    pub(crate) fn panic(&self) -> Option<String> {
        self.uart().panic().map(str::to_owned)
    }

    /// Device number `index`.
    pub(crate) fn slot(&self, index: usize) -> Option<&Arc<dyn Slot>> {
        self.slots.get(index)
    }

    /// What the guest's console printed joins what its UART printed.
    pub(crate) fn log(&self, bytes: &[u8]) {
        let mut uart = self.uart();
        for byte in bytes {
            uart.put(*byte);
        }
    }

    fn at(&self, address: u64, length: usize) -> Option<(&Arc<dyn Slot>, u64)> {
        let place = address.checked_sub(layout::DEVICES)?;
        let (index, offset) = (place / WINDOW, place % WINDOW);
        let fits = offset + length as u64 <= WINDOW;
        self.slots
            .get(usize::try_from(index).ok()?)
            .filter(|_| fits)
            .map(|slot| (slot, offset))
    }

    fn uart(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

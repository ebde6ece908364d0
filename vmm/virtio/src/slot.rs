//! What a machine sees of a device: one window of registers, some queues, perhaps one host descriptor.
//! Refuses to know which device it is, and what raises an interrupt.

use std::ops::Range;
use std::os::fd::RawFd;

use crate::DeviceError;

/// Length in bytes of a slot's register window.
pub const WINDOW: u64 = 0x1000;

/// Offset in the window of the queue-notify register (virtio 1.2 §4.2.2). A 32-bit write of a queue's index is a
/// kick of that queue, so an ioeventfd with that datamatch may stand for it.
pub const QUEUE_NOTIFY: u64 = 0x50;

/// Registers with the addresses of a queue's rings. What is written there shows in no register, and counts once another one is
/// written: a machine may let it wait until then (KVM's coalesced MMIO), as long as it comes in its order.
pub const QUEUE_ADDRESSES: Range<u64> = 0x80..0xa8;

/// A device behind its transport, with the device's type erased.
///
/// All methods take `&self`, may be called from any thread at any time, and never block on the guest. Work per call is
/// bounded.
pub trait Slot: Send + Sync {
    /// Short name of the device, for messages and as key in a snapshot.
    fn name(&self) -> &'static str;

    /// The kernel option without which a guest never starts this device (`"CONFIG_VIRTIO_BLK"`).
    fn kernel_option(&self) -> &'static str;

    /// Number of queues; queue indices are `0..queue_count()`.
    fn queue_count(&self) -> usize;

    /// Whether [`kick`](Self::kick) may wait for the host's files: a machine then serves it in a thread of its own.
    fn blocks(&self) -> bool;

    /// Guest reads `data.len()` bytes at `offset` of the window. Anything undefined reads as zeros.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Guest writes `data` at `offset` of the window. Anything undefined is ignored. A write to [`QUEUE_NOTIFY`] serves
    /// the queue before it returns.
    fn write(&self, offset: u64, data: &[u8]);

    /// Serves a queue: the guest notified it, [`Notify::kick_again`] asked for it, or the machine resumes (then every
    /// queue is kicked once). Harmless when there is nothing to do or the guest has not started the device.
    fn kick(&self, queue: usize);

    /// The descriptor to poll for input, if the device has one. It stays the same for the slot's whole life.
    fn host_fd(&self) -> Option<RawFd>;

    /// [`host_fd`](Self::host_fd) is readable.
    fn host_ready(&self);

    /// Whether the guest's driver has ever reached `DRIVER_OK`.
    fn started(&self) -> bool;

    /// Everything needed to go on elsewhere. Call it with the vCPUs stopped; the slot stays usable.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be encoded.
    fn save(&self) -> Result<Vec<u8>, StateError>;

    /// Pours saved state over a slot that was built as for a boot; afterwards kick every queue once. Nothing in `state`
    /// is trusted.
    ///
    /// # Errors
    /// [`StateError`] when `state` is not one that [`save`](Self::save) of the same device could have made; the slot is then
    /// as after a reset.
    fn restore(&self, state: &[u8]) -> Result<(), StateError>;
}

/// What a slot tells the machine it is plugged into. Called with the slot's lock held: do not call back into the slot.
pub trait Notify: Send + Sync {
    /// Raises the slot's interrupt line: one edge (a write to its irqfd).
    fn interrupt(&self);

    /// Asks that `kick(queue)` be called again soon, after others have had their turn (a write to the eventfd that stands
    /// for the queue's notifications). Sent when one call's share of work was used up.
    fn kick_again(&self, queue: usize);

    /// Has the thread that serves the slot call `kick(queue)`, before the calling one goes on where they share a processor. The
    /// guest notified a queue of a device that blocks.
    fn kick_server(&self, queue: usize);

    /// The guest broke its device; it answers nothing until the guest resets it. Said once in a slot's life, however
    /// often it happens.
    fn broken(&self, error: &DeviceError);

    /// The device's host side is gone for good (the launcher closed the vsock channel). Said once.
    fn hung_up(&self);
}

/// Saved state that could not be made or does not fit.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not the encoding that `save` produces.
    #[error("Device state cannot be encoded or decoded")]
    Encoding(#[from] postcard::Error),
    /// A value that no driver could have brought about.
    #[error("Device state holds an impossible {0}")]
    Impossible(&'static str),
}

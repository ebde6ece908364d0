//! What a guest can do to its own device that makes the device give up until it is reset.

use std::io;

/// The guest broke the rules of virtio, or the host side failed in a way the device cannot report to the guest.
///
/// The transport answers with `DEVICE_NEEDS_RESET` (virtio 1.2 §2.1.1) and serves no queue until the guest resets the device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A ring of the queue is not wholly in one region of guest memory.
    #[error("Queue {queue}: {ring} ring at {address:#x} is not in memory")]
    Ring {
        /// Index of the queue.
        queue: usize,
        /// Which of its three parts.
        ring: &'static str,
        /// Guest physical address.
        address: u64,
    },
    /// The available index is further ahead than the queue is long, or ran backwards.
    #[error("Queue {queue}: available index jumped from {seen} to {claimed}")]
    AvailableIndex {
        /// Index of the queue.
        queue: usize,
        /// Next index the device would have read.
        seen: u16,
        /// What the driver wrote.
        claimed: u16,
    },
    /// `virtio_queue` cannot work the queue: a ring is misaligned.
    #[error("Queue {queue}: {error}")]
    Queue {
        /// Index of the queue.
        queue: usize,
        /// What it says.
        error: virtio_queue::Error,
    },
    /// A descriptor chain that virtio 1.2 §2.7.5 does not allow.
    #[error("Queue {queue}: descriptor chain {fault}")]
    Chain {
        /// Index of the queue.
        queue: usize,
        /// What is wrong with it.
        fault: ChainFault,
    },
    /// A request whose readable or writable part is too short for its fixed fields.
    #[error("Request is too short")]
    RequestTooShort,
    /// A host system call failed.
    #[error("Host side of the device failed")]
    Host(#[from] io::Error),
}

/// What can be wrong with a descriptor chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A descriptor index that is not below the table's size.
    #[error("names a descriptor outside the table")]
    Index,
    /// More descriptors than the queue is long: a loop, or a lie.
    #[error("has more descriptors than the queue")]
    TooLong,
    /// A buffer that is not wholly in guest memory, or wraps around.
    #[error("points outside memory")]
    Memory,
    /// A device-readable descriptor after a device-writable one.
    #[error("is readable after writable")]
    Order,
    /// More than 4 GiB in all.
    #[error("holds more than 4 GiB")]
    TooMuch,
    /// An indirect table without the feature, inside an indirect table, chained, or of a length that is not a
    /// multiple of a descriptor's.
    #[error("has a bad indirect table")]
    Indirect,
}

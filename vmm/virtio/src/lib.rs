//! virtio 1.2 device models behind the MMIO transport (modern, version 2). Knows no KVM, no event loop and no thread.
//!
//! A machine builds a device, puts it behind [`Mmio`] and from then on sees only a [`Slot`]; the slot talks back through
//! [`Notify`].
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(
    test,
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        reason = "a failing test may panic"
    )
)]

mod balloon;
mod block;
mod chain;
mod console;
#[cfg(test)]
mod contract;
mod device;
mod entropy;
mod error;
pub mod fs;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
mod guest;
mod mmio;
mod net;
mod poll;
mod queue;
mod slot;
mod sys;
mod vsock;

pub use balloon::{Balloon, BalloonState};
pub use block::{Access, Block, BlockState, MediumError};
pub use chain::{Chain, Reader, Writer};
pub use console::Console;
pub use device::{Io, Served, VirtioDevice};
pub use entropy::Entropy;
pub use error::{ChainFault, DeviceError};
pub use fs::Fs;
pub use mmio::Mmio;
pub use net::{HEADER, Link, Net, Offload, Received};
pub use slot::{Notify, QUEUE_ADDRESSES, QUEUE_NOTIFY, Slot, StateError, WINDOW};
pub use vsock::{MOST_CONNECTIONS, Vsock, VsockState};

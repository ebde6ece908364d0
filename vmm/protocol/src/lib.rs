//! Every byte between the host and guest init: message types and their framing. Knows no socket, no process and no
//! policy; both sides are built from it, and either side may be hostile.
//!
//! Guest init dials host port [`AGENT_PORT`] over vsock. Each connection starts with one [`Opening`] frame from the
//! guest. After [`Opening::Hello`] the connection carries [`FromHost`] and [`FromGuest`] frames; after
//! [`Opening::Attach`] it carries one stream's raw bytes, whose end is a shutdown of the sending direction. A connection
//! that ends before its first frame means nothing: it was made for a process that then could not run.
//!
//! The order of a run: `Hello` → [`FromHost::Run`] → `Attach` for standard input or a terminal → [`FromGuest::Started`] or
//! [`FromGuest::Failed`] → [`FromGuest::Exited`]. Standard output and error are attached with their first byte, or never, and with
//! [`FromHost::Work`] at once. What was attached was written in full and closed before `Exited` is sent, which says how many they were:
//! on the host, which hears several connections, they may be seen later, and it waits for all.
//! After `Started`, [`FromHost::Exec`] asks for further processes, which go the same way.
//!
//! A machine that others are copied from goes `Hello` → [`FromHost::Rest`] → [`FromGuest::Resting`] and is saved then. In each
//! copy the connection goes on with [`FromHost::Renew`] and `Run`.
//! The host closes the control connection when it has what it wants; the guest then powers off, whatever it was doing.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;

mod bytes;
mod frame;
#[cfg(all(feature = "std", any(test, feature = "fuzzing")))]
pub mod fuzz;
mod item;
mod message;

pub use bytes::Bytes;
pub use frame::{Decoder, FrameError, Message, encode};
#[cfg(feature = "std")]
pub use frame::{read, write};
pub use item::{Change, Entry, EntryKind, Item, Work};
pub use message::{
    Address, Attach, Bounds, Container, ENTROPY, Failure, FromGuest, FromHost, Hello, Limit,
    MountFlags, Network, Opening, Privileges, Process, ProcessId, Renewal, Route, Status, Stream,
    Sysctl, Tmpfs, Volume, WindowSize,
};

/// The host's vsock port on which it expects guest init (vsock CID 2).
pub const AGENT_PORT: u32 = 1024;

/// What guest init knows the file system device by that has the volumes.
pub const VOLUMES_TAG: &str = "volumes";
/// The same device where its part 0 is the root, instead of an image.
pub const ROOT_TAG: &str = "root";
/// The same device where its part 0 is what lies below the root's upper layer, instead of an image.
pub const LOWER_TAG: &str = "lower";

/// The version of everything in this crate, checked when a [`Hello`] is decoded. Guest init and hull are built
/// together; a difference means a stale initramfs, not something to negotiate.
pub const VERSION: u16 = 13;

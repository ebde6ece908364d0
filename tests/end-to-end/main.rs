//! The end-to-end tests: the real program, real images, a KVM that boots Linux. One module for each promise.
//!
//! `cargo xtask test` runs them where /dev/kvm boots Linux, else in the lab. On a machine without they fail, and hull's own
//! words say why; none is skipped.

mod bad_input;
mod clones;
mod configuration;
mod confined;
mod containers;
mod copies;
mod endings;
mod entries;
mod exit_codes;
mod hostile;
mod hosts;
mod images;
mod inside;
mod jail;
mod leftovers;
mod live;
mod management;
mod names;
mod neighbours;
mod network;
mod policy;
mod python;
mod registry;
mod resources;
mod rootfs;
mod servers;
mod services;
mod signals;
mod sizes;
mod snapshots;
mod soak;
mod storage;
mod streams;
mod terminal;
mod timings;
mod traffic;
mod transfers;
mod unreachable;
mod uplinks;
mod upsets;
mod volumes;
mod warm;

//! Hostile bytes into every decoder of the agent protocol; the body is the crate's own.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzz::decode(data));

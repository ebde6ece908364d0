//! Feeds frames of a guest to the network. Refuses to know more than `network::fuzz` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| network::fuzz::frames(bytes));

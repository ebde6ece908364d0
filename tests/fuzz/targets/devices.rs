//! Feeds registers, rings and requests to every virtio device. Refuses to know more than `virtio::fuzz` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| virtio::fuzz::devices(bytes));

//! Feeds what registries, users and configuration files write to its parsers. Refuses to know more than
//! `image::registry::fuzz` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::registry::fuzz::registry(bytes));

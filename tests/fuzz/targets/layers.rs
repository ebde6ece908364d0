//! Feeds layer archives to the converter. Refuses to know more than `image::fuzz::layers` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzz::layers(bytes));

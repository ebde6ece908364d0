//! Feeds docker archives, OCI layouts and their documents to their parsers. Refuses to know more than
//! `image::fuzz::archive` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzz::archive(bytes));

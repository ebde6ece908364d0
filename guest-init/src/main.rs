//! pid 1, without any library but Rust's own core: a small program that starts at once. Everything is in the library;
//! what a C library would do is in `sys/bare.rs`.
#![no_std]
#![no_main]

#[expect(unsafe_code, reason = "what a C library is made of")]
#[path = "sys/bare.rs"]
mod bare;

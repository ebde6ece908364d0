//! pid 1. Rust's own start-up is left out: it opens files, reads /proc and installs handlers that init has no use for.
//! Everything is in the library.
#![no_main]

/// Where the C runtime hands over.
// SAFETY: the name is the C runtime's contract, and no other symbol of this binary has it.
#[expect(
    unsafe_code,
    reason = "the attribute is the only way to name the entry point"
)]
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    guest_init::main()
}

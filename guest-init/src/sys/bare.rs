//! What a C library would be: where the kernel enters, the allocator, the memory functions that compiled code calls by
//! name, and the end of a panic. Part of the binary alone. It keeps the program small, which every guest pays for.

use core::arch::global_asm;
use core::ffi::c_int;

use guest_init::sys::heap::Heap;
use guest_init::sys::memory;

// The kernel enters with the stack pointer on the argument count and expects no return. Its frame must be aligned to 16
// bytes before a call.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym enter,
);

extern "C" fn enter() -> ! {
    guest_init::main()
}

#[panic_handler]
fn panic(panic: &core::panic::PanicInfo<'_>) -> ! {
    guest_init::complain(panic);
    guest_init::sys::leave(134)
}

#[global_allocator]
static HEAP: Heap = Heap::new();

/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, size: usize) -> *mut u8 {
    // SAFETY: the caller promises what is asked for.
    unsafe { memory::copy(to, from, size) };
    to
}

/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, size: usize) -> *mut u8 {
    // SAFETY: the caller promises what is asked for.
    unsafe { memory::move_over(to, from, size) };
    to
}

/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, size: usize) -> *mut u8 {
    let [byte, ..] = byte.to_le_bytes();
    // SAFETY: the caller promises what is asked for.
    unsafe { memory::fill(to, byte, size) };
    to
}

/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, size: usize) -> c_int {
    // SAFETY: the caller promises what is asked for.
    unsafe { memory::compare(left, right, size) }
}

/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, size: usize) -> c_int {
    // SAFETY: the caller promises what is asked for.
    unsafe { memory::compare(left, right, size) }
}

/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    // SAFETY: the caller promises what is asked for.
    unsafe { memory::length(string) }
}

/// Named by the compiled core library, which was built to unwind; nothing here does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    guest_init::sys::leave(134)
}

//! What compiled code asks of a C library: copying, filling and comparing memory. In instructions that the compiler
//! cannot turn into calls of the same functions.

use core::arch::asm;
use core::ffi::c_int;

/// Copies where the two do not overlap.
///
/// # Safety
/// As C has it: both sides are valid for so many bytes.
pub unsafe fn copy(to: *mut u8, from: *const u8, size: usize) {
    // SAFETY: the caller's promise covers `size` bytes on both sides; the direction flag is clear in Rust code. Eight
    // bytes at a time, then the rest.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {rest:e}",
            "rep movsb",
            rest = in(reg) size & 7,
            inout("rcx") size >> 3 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies where the two may overlap.
///
/// # Safety
/// As C has it: both sides are valid for so many bytes.
pub unsafe fn move_over(to: *mut u8, from: *const u8, size: usize) {
    if to.addr().wrapping_sub(from.addr()) >= size {
        // SAFETY: going upward never reads what was written: `to` is below `from` or past its end.
        return unsafe { copy(to, from, size) };
    }
    // SAFETY: the caller's promise covers `size` bytes on both sides; going downward from the last byte never reads what
    // was written. The direction flag is clear again afterwards.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") size => _,
            inout("rdi") to.wrapping_add(size).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(size).wrapping_sub(1) => _,
            options(nostack),
        );
    }
}

/// Fills memory with one byte.
///
/// # Safety
/// As C has it: both sides are valid for so many bytes.
pub unsafe fn fill(to: *mut u8, byte: u8, size: usize) {
    let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
    // SAFETY: the caller's promise covers `size` bytes; the direction flag is clear in Rust code.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {rest:e}",
            "rep stosb",
            rest = in(reg) size & 7,
            inout("rcx") size >> 3 => _,
            inout("rdi") to => _,
            in("rax") pattern,
            options(nostack, preserves_flags),
        );
    }
}

/// Compares bytes as numbers.
///
/// # Safety
/// As C has it: both sides are valid for so many bytes.
pub unsafe fn compare(left: *const u8, right: *const u8, size: usize) -> c_int {
    for at in 0..size {
        // SAFETY: the caller's promise covers `size` bytes; a volatile read keeps this from becoming a call of itself.
        let left = unsafe { left.wrapping_add(at).read_volatile() };
        // SAFETY: as before.
        let right = unsafe { right.wrapping_add(at).read_volatile() };
        if left != right {
            return c_int::from(left) - c_int::from(right);
        }
    }
    0
}

/// The length of a C string.
///
/// # Safety
/// As C has it: both sides are valid for so many bytes.
pub unsafe fn length(string: *const u8) -> usize {
    let mut size = 0;
    // SAFETY: the caller promises a zero byte, and nothing after it is read; volatile as in `compare`.
    while unsafe { string.wrapping_add(size).read_volatile() } != 0 {
        size += 1;
    }
    size
}

#[cfg(test)]
mod tests;

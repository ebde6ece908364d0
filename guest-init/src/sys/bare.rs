//! What a C library would be: where the kernel enters, memory for the allocator, the memory functions that compiled code
//! calls, and the end of a panic. Part of the binary alone. It keeps the program small, which every guest pays for.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::Cell;
use core::ffi::c_int;
use core::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

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

/// Memory in powers of two, each size with a list of its free pieces; what is large is mapped by itself. Nothing is
/// given back to another size: init's needs are small and the same over and over.
struct Heap {
    /// First free piece by size: 16 bytes, 32, … up to [`LARGEST`].
    free: [Cell<*mut Piece>; SIZES],
    /// What no piece was cut from yet.
    next: Cell<usize>,
    end: Cell<usize>,
}

/// A free piece holds where the next one is.
struct Piece {
    next: *mut Piece,
}

const SMALLEST: usize = 16;
const SIZES: usize = 11;
const LARGEST: usize = SMALLEST << (SIZES - 1);
/// Mapped at a time; only what is touched costs memory.
const CHUNK: usize = 256 << 10;
const PAGE: usize = 4096;

// SAFETY: init has one thread, and nothing here is called from a signal handler: it has none.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    free: [const { Cell::new(ptr::null_mut()) }; SIZES],
    next: Cell::new(0),
    end: Cell::new(0),
};

impl Heap {
    /// Which list serves a request, `None` where it is mapped by itself.
    fn list(&self, layout: Layout) -> Option<(usize, &Cell<*mut Piece>)> {
        let size = layout
            .size()
            .max(layout.align())
            .max(SMALLEST)
            .next_power_of_two();
        let number = size
            .trailing_zeros()
            .checked_sub(SMALLEST.trailing_zeros())?;
        Some((size, self.free.get(number as usize)?))
    }

    /// A new piece; its size is a power of two, so that it is aligned to its size if the chunk is to the largest.
    fn cut(&self, size: usize) -> *mut u8 {
        let at = self.next.get().next_multiple_of(size);
        if at == 0 || at + size > self.end.get() {
            let chunk = map(CHUNK + LARGEST);
            if chunk.is_null() {
                return chunk;
            }
            let start = chunk.expose_provenance().next_multiple_of(LARGEST);
            self.end.set(start + CHUNK);
            self.next.set(start + size);
            return ptr::with_exposed_provenance_mut(start);
        }
        self.next.set(at + size);
        ptr::with_exposed_provenance_mut(at)
    }
}

fn map(size: usize) -> *mut u8 {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nobody's memory.
    let mapped = unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) };
    mapped.map_or(ptr::null_mut(), <*mut _>::cast)
}

// SAFETY: a piece is handed out once until it comes back: it is taken off its list or cut from memory no piece has. It is
// as large as asked for and aligned to its own size, a power of two no smaller than the alignment.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, list)) = self.list(layout) else {
            return if layout.align() > PAGE {
                ptr::null_mut()
            } else {
                map(layout.size())
            };
        };
        let Some(piece) = NonNull::new(list.get()) else {
            return self.cut(size);
        };
        // SAFETY: a piece on a list is free, so what it holds is the link that was put there.
        list.set(unsafe { piece.as_ref() }.next);
        piece.as_ptr().cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some((_, list)) = self.list(layout) else {
            // SAFETY: it was mapped by itself with this size, and its user is done with it.
            let _ = unsafe { munmap(memory.cast(), layout.size()) };
            return;
        };
        let piece: *mut Piece = memory.cast();
        // SAFETY: its user is done with it, it is at least as large as a link and aligned to 16 bytes.
        unsafe { piece.write(Piece { next: list.get() }) };
        list.set(piece);
    }
}

/// Copies where the two do not overlap.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, size: usize) -> *mut u8 {
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
    to
}

/// Copies where the two may overlap.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, size: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= size {
        // SAFETY: going upward never reads what was written: `to` is below `from` or past its end.
        return unsafe { memcpy(to, from, size) };
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
    to
}

/// Fills memory with one byte.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, size: usize) -> *mut u8 {
    let pattern = u64::from(byte.to_le_bytes()[0]) * 0x0101_0101_0101_0101;
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
    to
}

/// Compares bytes as numbers.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, size: usize) -> c_int {
    for at in 0..size {
        // SAFETY: the caller's promise covers `size` bytes; a volatile read keeps this from becoming a call of itself.
        let left = unsafe { left.add(at).read_volatile() };
        // SAFETY: as before.
        let right = unsafe { right.add(at).read_volatile() };
        if left != right {
            return c_int::from(left) - c_int::from(right);
        }
    }
    0
}

/// Compares bytes for being the same.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, size: usize) -> c_int {
    // SAFETY: the caller promises what memcmp asks for.
    unsafe { memcmp(left, right, size) }
}

/// The length of a C string.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut size = 0;
    // SAFETY: the caller promises a zero byte, and nothing after it is read; volatile as in memcmp.
    while unsafe { string.add(size).read_volatile() } != 0 {
        size += 1;
    }
    size
}

/// Named by the compiled core library, which was built to unwind; nothing here does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    guest_init::sys::leave(134)
}

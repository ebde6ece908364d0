//! The machine as it is: memory and registers at any address, ports, the second processor. The program's only `unsafe`: a
//! program that is alone on a machine and wants to do it harm has nothing to lose by any of it.

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

global_asm!(include_str!("boot.s"), options(att_syntax));

/// Where a second processor begins, and where it finds its segments.
const SECOND_START: u64 = 0x8000;
const SEGMENTS_PLACE: u64 = 0x7f00;
/// The local APIC's registers for spurious interrupts, which enables it, and for commands.
const SPURIOUS: u64 = 0xfee0_00f0;
const COMMAND: u64 = 0xfee0_0300;

unsafe extern "C" {
    static second_start: u8;
    static second_end: u8;
    static segments_place: u8;
}

pub(crate) fn read<T: Copy>(address: u64) -> T {
    unsafe { (address as *const T).read_volatile() }
}

pub(crate) fn write<T: Copy>(address: u64, value: T) {
    unsafe { (address as *mut T).write_volatile(value) }
}

pub(crate) fn read_port(port: u16) -> u8 {
    let value: u8;
    unsafe { asm!("in al, dx", out("al") value, in("dx") port, options(nomem, nostack)) };
    value
}

pub(crate) fn write_port(port: u16, value: u8) {
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// Starts the second processor, which calls `begin` as well.
pub(crate) fn start_second() {
    let (start, end) = (&raw const second_start as u64, &raw const second_end as u64);
    for offset in 0..end - start {
        write::<u8>(SECOND_START + offset, read(start + offset));
    }
    for offset in 0..6 {
        let byte: u8 = read(&raw const segments_place as u64 + offset);
        write(SEGMENTS_PLACE + offset, byte);
    }
    // INIT, then twice "begin at page 8", all to APIC 1.
    write::<u32>(SPURIOUS, 0x1ff);
    for command in [0x4500_u32, 0x4608, 0x4608] {
        write::<u32>(COMMAND + 0x10, 1 << 24);
        write(COMMAND, command);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    crate::end("the hostile guest broke itself")
}

/// What core's own object code names, though nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// What the compiler makes of copies.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack))
    };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte as u8, options(nostack))
    };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    for index in 0..count {
        let (one, other) = unsafe {
            (
                one.add(index).read_volatile(),
                other.add(index).read_volatile(),
            )
        };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// What the boot code calls.
#[unsafe(no_mangle)]
extern "C" fn begin(processor: u32, start_info: u64) -> ! {
    crate::main(processor, start_info)
}

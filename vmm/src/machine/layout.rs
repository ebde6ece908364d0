//! Where things are in the guest's physical address space. Numbers only: knows neither KVM nor a mapping.

use crate::config::Memory;
use crate::sys::Piece;

/// End of conventional memory (639 KiB): the MP table begins here, where kernels look for it.
pub(crate) const MP_TABLE: u64 = 0x9_fc00;
/// Room for the MP table, up to the hole for video memory.
pub(crate) const MP_TABLE_ROOM: usize = 0x400;
/// First byte of extended memory: nothing is loaded below.
pub(crate) const HIGH_MEMORY: u64 = 0x10_0000;

/// Segment descriptors for the PVH entry.
pub(crate) const GDT: u64 = 0x500;
/// The PVH start_info, its modules and its memory map.
pub(crate) const START_INFO: u64 = 0x6000;
/// The kernel's command line, NUL-terminated.
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// Longest command line without its NUL (the kernel's COMMAND_LINE_SIZE is 2048 with it).
pub(crate) const COMMAND_LINE_MOST: usize = 2047;

/// RAM below 4 GiB ends here at the latest; devices, IO-APIC and APIC follow.
pub(crate) const LOW_MEMORY_END: u64 = 0xc000_0000;
/// RAM goes on here.
pub(crate) const ABOVE_4_GIB: u64 = 1 << 32;

/// First virtio-mmio window.
pub(crate) const DEVICES: u64 = 0xd000_0000;
/// Interrupt line of the first device; the next one has the next line.
pub(crate) const FIRST_LINE: u8 = 5;
/// Lines an IO-APIC has.
pub(crate) const LINES: u8 = 24;
/// Most devices that have a line each.
pub(crate) const MOST_DEVICES: usize = (LINES - FIRST_LINE) as usize;

/// Physical address of the IO-APIC in KVM.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
/// Physical address of each local APIC.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages for Intel processors that cannot run real mode directly; never RAM, never a device.
pub(crate) const TSS: usize = 0xfffb_d000;

/// Kinds of memory in the PVH memory map (the numbers of e820).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Usable.
    Ram = 1,
    /// Not to be touched.
    Reserved = 2,
}

/// A line of the memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// First byte.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// What it is.
    pub(crate) kind: Kind,
}

/// Splits memory around the window for devices below 4 GiB.
pub(crate) fn pieces(memory: Memory) -> Vec<Piece> {
    let low = memory.bytes().min(LOW_MEMORY_END);
    let high = memory.bytes() - low;
    let mut pieces = vec![Piece {
        guest: 0,
        offset: 0,
        length: size(low),
    }];
    if high > 0 {
        pieces.push(Piece {
            guest: ABOVE_4_GIB,
            offset: low,
            length: size(high),
        });
    }
    pieces
}

/// A length as the host counts it; the machine is 64-bit like its host.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The memory map that tells the kernel of those pieces.
pub(crate) fn memory_map(memory: Memory) -> Vec<Range> {
    let low = memory.bytes().min(LOW_MEMORY_END);
    let high = memory.bytes() - low;
    let mut map = vec![
        Range {
            start: 0,
            length: MP_TABLE,
            kind: Kind::Ram,
        },
        Range {
            start: MP_TABLE,
            length: HIGH_MEMORY - MP_TABLE,
            kind: Kind::Reserved,
        },
        Range {
            start: HIGH_MEMORY,
            length: low - HIGH_MEMORY,
            kind: Kind::Ram,
        },
    ];
    if high > 0 {
        map.push(Range {
            start: ABOVE_4_GIB,
            length: high,
            kind: Kind::Ram,
        });
    }
    map
}

#[cfg(test)]
mod tests;

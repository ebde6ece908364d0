//! Processor state at the PVH entry (Xen's docs/misc/pvh.pandoc): 32-bit protected mode, flat segments, no paging.
//! Values only: knows neither a vCPU nor a kernel.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use super::layout;

/// Protection enabled, and the extension type bit that is always one.
const CR0_PROTECTED: u64 = 0x11;
/// The flag that is always one.
const FLAGS: u64 = 0x2;

/// Code, data and task segments as 8-byte descriptors; entry 0 is never used.
pub(crate) const DESCRIPTORS: [u64; 4] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0000_8b00_0000_0067,
];

/// General registers: where to begin, and the address of the start_info in EBX.
pub(crate) fn general(entry: u64) -> kvm_regs {
    kvm_regs {
        rip: entry,
        rbx: layout::START_INFO,
        rflags: FLAGS,
        ..Default::default()
    }
}

/// Segment and control registers, made out of those of a vCPU after its reset.
pub(crate) fn special(mut reset: kvm_sregs) -> kvm_sregs {
    let data = segment(2, 0x3, 0xffff_ffff, true);
    reset.cs = segment(1, 0xb, 0xffff_ffff, true);
    (reset.ds, reset.es, reset.fs, reset.gs, reset.ss) = (data, data, data, data, data);
    reset.tr = segment(3, 0xb, 0x67, false);
    reset.gdt.base = layout::GDT;
    reset.gdt.limit = 8 * 4 - 1;
    reset.idt.base = 0;
    reset.idt.limit = 0;
    reset.cr0 = CR0_PROTECTED;
    reset.cr3 = 0;
    reset.cr4 = 0;
    reset.efer = 0;
    reset
}

/// The cached part of a flat segment register.
fn segment(index: u16, kind: u8, limit: u32, flat: bool) -> kvm_segment {
    kvm_segment {
        selector: index * 8,
        limit,
        type_: kind,
        present: 1,
        s: flat.into(),
        db: flat.into(),
        g: flat.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;

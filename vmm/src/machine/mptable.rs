//! The MultiProcessor table (Intel MultiProcessor Specification 1.4): how a kernel without ACPI finds processors and
//! interrupt lines. Bytes only: knows neither memory nor KVM.

use std::ops::Range;

use super::layout;
use crate::config::Cpus;

const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Kinds of interrupt (table 4-10).
const VECTORED: u8 = 0;
const NON_MASKABLE: u8 = 1;
const EXTERNAL: u8 = 3;

const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;
const EVERY_LOCAL_APIC: u8 = 0xff;
/// Version of an integrated APIC, as KVM's local APIC shows it.
const APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;
const SPECIFICATION: u8 = 4;
const POINTER: usize = 16;
const HEADER: usize = 44;

/// The floating pointer structure and, right after it, the configuration table it points at; made for [`layout::MP_TABLE`].
///
/// Of the interrupt lines it names only `lines`: a kernel sets up each one named, with four exits to KVM.
pub(crate) fn table(cpus: Cpus, lines: Range<u8>) -> Vec<u8> {
    // APIC numbers: 0 .. cpus for the processors, the next one for the IO-APIC.
    let io_apic = cpus.count();
    let mut entries = Vec::with_capacity(layout::MP_TABLE_ROOM);
    let mut count: u16 = 0;
    let mut entry = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for cpu in 0..cpus.count() {
        let flags = if cpu == 0 {
            ENABLED | BOOT_PROCESSOR
        } else {
            ENABLED
        };
        let mut processor = [0; 20];
        processor[..4].copy_from_slice(&[PROCESSOR, cpu, APIC_VERSION, flags]);
        // Family 6 with FPU and APIC: kernels print it, and ask CPUID for what they use.
        processor[4..12].copy_from_slice(&[0, 6, 0, 0, 0x01, 0x02, 0, 0]);
        entry(&processor);
    }
    entry(&[BUS, 0, b'I', b'S', b'A', b' ', b' ', b' ']);
    let [a, b, c, d] = layout::IO_APIC.to_le_bytes();
    entry(&[IO_APIC, io_apic, IO_APIC_VERSION, ENABLED, a, b, c, d]);
    for line in lines {
        entry(&[INTERRUPT, VECTORED, 0, 0, 0, line, io_apic, line]);
    }
    entry(&[LOCAL_INTERRUPT, EXTERNAL, 0, 0, 0, 0, EVERY_LOCAL_APIC, 0]);
    entry(&[
        LOCAL_INTERRUPT,
        NON_MASKABLE,
        0,
        0,
        0,
        0,
        EVERY_LOCAL_APIC,
        1,
    ]);

    let mut table = Vec::with_capacity(POINTER + HEADER + entries.len());
    let at = u32::try_from(layout::MP_TABLE).unwrap_or(0) + 16;
    table.extend_from_slice(b"_MP_");
    table.extend_from_slice(&at.to_le_bytes());
    table.extend_from_slice(&[1, SPECIFICATION, 0, 0, 0, 0, 0, 0]);
    seal(&mut table[..POINTER], 10);

    let length = u16::try_from(HEADER + entries.len()).unwrap_or(u16::MAX);
    table.extend_from_slice(b"PCMP");
    table.extend_from_slice(&length.to_le_bytes());
    table.extend_from_slice(&[SPECIFICATION, 0]);
    table.extend_from_slice(b"HULL    MACHINE     ");
    table.extend_from_slice(&[0; 6]); // no OEM table
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    table.extend_from_slice(&[0; 4]); // no extended table
    table.extend_from_slice(&entries);
    seal(&mut table[POINTER..], 7);
    table
}

/// Sets the byte at `place` so that all bytes add up to zero.
fn seal(bytes: &mut [u8], place: usize) {
    bytes[place] = 0;
    bytes[place] = bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
}

#[cfg(test)]
mod tests;

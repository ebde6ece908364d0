//! What a guest's CPUID says: what this host's KVM supports, less what a guest must not see, plus its own topology.
//! Knows tables, not vCPUs.

use kvm_bindings::kvm_cpuid_entry2;

use crate::config::Cpus;

/// Features of leaf 1, ECX, that a guest has no use for: MONITOR (it would busy-wait), VMX (no nesting), SMX, EIST, TM2, SDBG,
/// PDCM, and x2APIC, which a kernel enables with two hundred exits to spare what KVM's paravirtual APIC spares as well.
const LEAF_1_C_HIDDEN: u32 =
    1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 15 | 1 << 21;
/// Timer deadlines as TSC values: no calibration, no PIT. KVM has it wherever it has an interrupt controller of its own.
const LEAF_1_C_TSC_DEADLINE: u32 = 1 << 24;
const LEAF_1_C_HYPERVISOR: u32 = 1 << 31;
const LEAF_1_D_THREADS: u32 = 1 << 28;
/// The timer goes on in deep sleep (ARAT): else a kernel wants a PIT beside it.
const LEAF_6_A_ALWAYS_RUNNING_TIMER: u32 = 1 << 2;
/// SGX (leaf 7, EBX), protection keys, 57-bit addresses (ECX), AMX and its kin (EDX): what our kernels do not use.
const LEAF_7_B_HIDDEN: u32 = 1 << 2 | 1 << 14;
const LEAF_7_C_HIDDEN: u32 = 1 << 3 | 1 << 4 | 1 << 16 | 1 << 30;
const LEAF_7_D_HIDDEN: u32 = 1 << 22 | 1 << 24 | 1 << 25;
/// XSAVE components a guest may use: x87, SSE, AVX, AVX-512. Our kernels enable just these, so that the sizes below are right
/// from the start.
const COMPONENTS: u32 = 1 << 0 | 1 << 1 | 1 << 2 | 0b111 << 5;
/// Bytes of legacy area and header in front of the first extended component.
const LEGACY_AREA: u32 = 576;
/// Supervisor state components need XSAVES (bit 3), and lazily enabled ones XFD (bit 4); a guest gets neither.
const LEAF_13_1_A_HIDDEN: u32 = 1 << 3 | 1 << 4;
/// SVM, skip-init, instruction sampling, watchdog, topology extensions (leaves this table does not fill).
const LEAF_AMD_1_C_HIDDEN: u32 = 1 << 2 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 22;
const LEAF_AMD_1_C_MULTI_CORE: u32 = 1 << 1;
/// KVM's asynchronous page faults (leaf 0x40000001; Linux, Documentation/virt/kvm/x86/cpuid.rst): an interrupt and a host thread for a
/// page that the host has to fetch, so that the guest can do something else. A guest of one workload seldom has anything.
const LEAF_KVM_A_HIDDEN: u32 = 1 << 4 | 1 << 10 | 1 << 14;
/// Leaves without any meaning for a guest: performance counters, SGX, PT, AMX, SVM, AMD topology, SEV, AMD performance.
const EMPTY: [u32; 11] = [
    0xa,
    0x12,
    0x14,
    0x1d,
    0x1e,
    0x8000_000a,
    0x8000_001d,
    0x8000_001e,
    0x8000_001f,
    0x8000_0022,
    0x8000_0026,
];

/// The table for one vCPU out of `cpus`.
pub(crate) fn table(supported: &[kvm_cpuid_entry2], cpu: u8, cpus: Cpus) -> Vec<kvm_cpuid_entry2> {
    let mut table: Vec<_> = supported
        .iter()
        .filter(|entry| !(EMPTY.contains(&entry.function) || matches!(entry.function, 0xb | 0x1f)))
        .filter(|entry| {
            entry.function != 0xd || entry.index < 2 || component(entry.index) & COMPONENTS != 0
        })
        .copied()
        .collect();
    let area = save_area(&table);
    for entry in &mut table {
        match (entry.function, entry.index) {
            (0x1, _) => {
                entry.ecx =
                    entry.ecx & !LEAF_1_C_HIDDEN | LEAF_1_C_TSC_DEADLINE | LEAF_1_C_HYPERVISOR;
                entry.ebx =
                    entry.ebx & 0xffff | u32::from(cpu) << 24 | u32::from(numbers(cpus)) << 16;
                entry.edx &= !LEAF_1_D_THREADS;
                if cpus.count() > 1 {
                    entry.edx |= LEAF_1_D_THREADS;
                }
            }
            // Cores that share a cache, cores of a package: the caches are each core's own, the package is one.
            (0x4, _) if entry.eax & 0x1f != 0 => {
                entry.eax = entry.eax & 0x3fff | (u32::from(numbers(cpus)) - 1) << 26;
            }
            (0x6, _) => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) =
                    (LEAF_6_A_ALWAYS_RUNNING_TIMER, 0, 0, 0)
            }
            (0x4000_0001, _) => entry.eax &= !LEAF_KVM_A_HIDDEN,
            (0x7, 0) => {
                entry.ebx &= !LEAF_7_B_HIDDEN;
                entry.ecx &= !LEAF_7_C_HIDDEN;
                entry.edx &= !LEAF_7_D_HIDDEN;
            }
            (0xd, 0) => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) =
                    (entry.eax & COMPONENTS, area, area, 0)
            }
            (0xd, 1) => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) =
                    (entry.eax & !LEAF_13_1_A_HIDDEN, 0, 0, 0);
            }
            (0x8000_0001, _) => {
                entry.ecx &= !(LEAF_AMD_1_C_HIDDEN | LEAF_AMD_1_C_MULTI_CORE);
                if cpus.count() > 1 {
                    entry.ecx |= LEAF_AMD_1_C_MULTI_CORE;
                }
            }
            (0x8000_0008, _) => {
                entry.ecx = u32::from(bits(cpus)) << 12 | (u32::from(cpus.count()) - 1)
            }
            _ => {}
        }
    }
    if !table.iter().any(|entry| entry.function == 6) {
        table.push(kvm_cpuid_entry2 {
            function: 6,
            eax: LEAF_6_A_ALWAYS_RUNNING_TIMER,
            ..Default::default()
        });
    }
    if table
        .iter()
        .any(|entry| entry.function == 0 && entry.eax >= 0xb)
    {
        table.extend(topology(cpu, cpus));
    }
    table
}

/// Leaf 0xb: one thread a core, all cores in one package.
fn topology(cpu: u8, cpus: Cpus) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let level = |index: u32, shift: u8, count: u8, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift.into(),
        ebx: count.into(),
        ecx: kind << 8 | index,
        edx: cpu.into(),
        ..Default::default()
    };
    [
        level(0, 0, 1, THREADS),
        level(1, bits(cpus), cpus.count(), CORES),
        level(2, 0, 0, 0),
    ]
}

/// Bits that an APIC number takes.
fn bits(cpus: Cpus) -> u8 {
    numbers(cpus).trailing_zeros().try_into().unwrap_or(0)
}

/// APIC numbers set aside for the package: a power of two.
fn numbers(cpus: Cpus) -> u8 {
    cpus.count().next_power_of_two()
}

/// The bit of a component in XCR0, zero for those beyond bit 31.
fn component(index: u32) -> u32 {
    1_u32.checked_shl(index).unwrap_or(0)
}

/// Size of the uncompacted XSAVE area for the components that are left.
fn save_area(table: &[kvm_cpuid_entry2]) -> u32 {
    let components = table
        .iter()
        .find(|entry| (entry.function, entry.index) == (0xd, 0))
        .map_or(0, |entry| entry.eax);
    table
        .iter()
        .filter(|entry| {
            entry.function == 0xd && entry.index >= 2 && component(entry.index) & components != 0
        })
        .map(|entry| entry.ebx.saturating_add(entry.eax))
        .fold(LEGACY_AREA, u32::max)
}

#[cfg(test)]
mod tests;

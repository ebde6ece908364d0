//! Tables made of an invented host.

use super::*;

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

fn host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, 0, [0x1f, 0, 0, 0]),
        entry(1, 0, [0x806f8, 0xff10_0800, !(1 << 24 | 1 << 31), u32::MAX]),
        entry(4, 0, [0xfc00_0121, 0, 0, 0]),
        entry(7, 0, [0, u32::MAX, u32::MAX, u32::MAX]),
        entry(0xa, 0, [7, 7, 7, 7]),
        entry(0xb, 0, [9, 9, 9, 9]),
        entry(0xd, 0, [0x6_02e7, 0x2b00, 0x2b00, 0]),
        entry(0xd, 1, [0x1f, 0x988, 0x1900, 0]),
        entry(0xd, 2, [0x100, 0x240, 0, 0]),
        entry(0xd, 7, [0x400, 0x680, 0, 0]),
        entry(0xd, 9, [0x8, 0xa80, 0, 0]),
        entry(0xd, 18, [0x2000, 0xb00, 6, 0]),
        entry(0xd, 34, [0x2000, 0xb00, 6, 0]),
        entry(
            0x4000_0000,
            0,
            [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d],
        ),
        entry(0x8000_0001, 0, [0, 0, u32::MAX, u32::MAX]),
        entry(0x8000_0008, 0, [0x3028, 0, 0, 0]),
        entry(0x8000_000a, 0, [1, 1, 1, 1]),
    ]
}

fn find(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    *table
        .iter()
        .find(|entry| (entry.function, entry.index) == (function, index))
        .unwrap()
}

#[test]
fn virtualisation_and_counters_are_hidden() {
    let table = table(&host(), 0, Cpus::ONE);
    assert_eq!(find(&table, 1, 0).ecx & (1 << 3 | 1 << 5), 0);
    assert_eq!(find(&table, 0x8000_0001, 0).ecx & (1 << 2), 0);
    assert!(
        !table
            .iter()
            .any(|entry| matches!(entry.function, 0xa | 0x8000_000a))
    );
    assert_eq!(find(&table, 7, 0).edx & (1 << 24), 0);
}

#[test]
fn a_page_that_is_not_there_is_waited_for() {
    let features = entry(
        0x4000_0001,
        0,
        [1 << 3 | 1 << 4 | 1 << 10 | 1 << 14, 0, 0, 0],
    );
    let table = table(&[host(), vec![features]].concat(), 0, Cpus::ONE);
    assert_eq!(find(&table, 0x4000_0001, 0).eax, 1 << 3);
}

#[test]
fn the_timer_needs_no_calibration() {
    let table = table(&host(), 0, Cpus::ONE);
    assert_ne!(find(&table, 1, 0).ecx & (1 << 24), 0);
    assert_ne!(find(&table, 1, 0).ecx & (1 << 31), 0);
    assert_eq!(find(&table, 6, 0).eax, 4);
}

#[test]
fn the_save_area_fits_the_components_that_are_left() {
    let table = table(&host(), 0, Cpus::ONE);
    let whole = find(&table, 0xd, 0);
    assert_eq!((whole.eax, whole.ecx, whole.edx), (0xe7, 0xa80, 0));
    assert_eq!(find(&table, 0xd, 1).eax, 0x7);
    let left: Vec<_> = table
        .iter()
        .filter(|entry| entry.function == 0xd)
        .map(|entry| entry.index)
        .collect();
    assert_eq!(left, [0, 1, 2, 7]);
}

#[test]
fn one_processor_stands_alone() {
    let table = table(&host(), 0, Cpus::ONE);
    assert_eq!(find(&table, 1, 0).edx & LEAF_1_D_THREADS, 0);
    assert_eq!(find(&table, 1, 0).ebx, 0x0001_0800);
    assert_eq!(find(&table, 4, 0).eax >> 14, 0);
}

#[test]
fn processors_know_their_number_and_their_neighbours() {
    let cpus = Cpus::new(6).unwrap();
    let table = table(&host(), 5, cpus);
    assert_eq!(find(&table, 1, 0).ebx, 0x0508_0800);
    assert_ne!(find(&table, 1, 0).edx & LEAF_1_D_THREADS, 0);
    assert_eq!(find(&table, 4, 0).eax, 7 << 26 | 0x121);
    assert_eq!(find(&table, 0x8000_0008, 0).ecx, 0x3005);
    let threads = find(&table, 0xb, 0);
    assert_eq!(
        (threads.eax, threads.ebx, threads.ecx, threads.edx),
        (0, 1, 0x100, 5)
    );
    let cores = find(&table, 0xb, 1);
    assert_eq!(
        (cores.eax, cores.ebx, cores.ecx, cores.edx),
        (3, 6, 0x201, 5)
    );
}

//! What a kernel checks before it believes the table.

use super::*;

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[test]
fn checksums_and_lengths_hold_for_every_number_of_processors() {
    for cpus in 1..=16 {
        let table = table(Cpus::new(cpus).unwrap(), 0..24);
        assert!(
            table.len() <= layout::MP_TABLE_ROOM,
            "{cpus} processors take {} bytes",
            table.len()
        );
        let (pointer, config) = table.split_at(16);
        assert_eq!((&pointer[..4], sum(pointer)), (&b"_MP_"[..], 0));
        assert_eq!(pointer[4..8], 0x9_fc10_u32.to_le_bytes());
        assert_eq!((&config[..4], sum(config)), (&b"PCMP"[..], 0));
        assert_eq!(
            usize::from(u16::from_le_bytes([config[4], config[5]])),
            config.len()
        );
        assert_eq!(
            u16::from_le_bytes([config[34], config[35]]),
            u16::try_from(cpus).unwrap() + 2 + 24 + 2
        );
        assert_eq!(config[36..40], 0xfee0_0000_u32.to_le_bytes());
    }
}

#[test]
fn entries_can_be_walked() {
    let table = table(Cpus::new(3).unwrap(), 5..7);
    let mut rest = &table[16 + 44..];
    let mut kinds = [0; 5];
    while let Some(kind) = rest.first() {
        kinds[usize::from(*kind)] += 1;
        rest = &rest[if *kind == PROCESSOR { 20 } else { 8 }..];
    }
    assert_eq!(kinds, [3, 1, 1, 2, 2]);
    let processors: Vec<_> = table[60..120]
        .chunks(20)
        .map(|entry| (entry[1], entry[3]))
        .collect();
    assert_eq!(
        processors,
        [(0, ENABLED | BOOT_PROCESSOR), (1, ENABLED), (2, ENABLED)]
    );
}

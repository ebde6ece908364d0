//! Memory never overlaps devices, whatever its size.

use super::*;

fn mib(mib: u64) -> Memory {
    Memory::mib(mib).unwrap()
}

#[test]
fn small_memory_is_one_piece() {
    assert_eq!(
        pieces(mib(256)),
        [Piece {
            guest: 0,
            offset: 0,
            length: 256 << 20
        }]
    );
    assert_eq!(pieces(mib(3072)).len(), 1);
}

#[test]
fn large_memory_goes_on_above_4_gib() {
    let pieces = pieces(mib(3073));
    assert_eq!(
        pieces[1],
        Piece {
            guest: ABOVE_4_GIB,
            offset: LOW_MEMORY_END,
            length: 1 << 20
        }
    );
}

#[test]
fn the_map_is_sorted_and_tells_of_all_memory() {
    for size in [32, 256, 3072, 3073, 8192, 1 << 20] {
        let map = memory_map(mib(size));
        for pair in map.windows(2) {
            assert!(
                pair[0].start + pair[0].length <= pair[1].start,
                "{size}: {map:x?}"
            );
        }
        let usable: u64 = map
            .iter()
            .filter(|range| range.kind == Kind::Ram)
            .map(|range| range.length)
            .sum();
        assert_eq!(usable + HIGH_MEMORY - MP_TABLE, size << 20);
        let devices = DEVICES..DEVICES + 0x1000 * MOST_DEVICES as u64;
        for range in &map {
            assert!(range.start + range.length <= devices.start || range.start >= devices.end);
            assert!(range.start + range.length <= u64::from(IO_APIC) || range.start >= ABOVE_4_GIB);
        }
    }
}

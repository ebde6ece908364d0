//! The cached segments say the same as the descriptors in memory.

use super::*;

#[test]
fn cached_segments_match_their_descriptors() {
    let special = special(kvm_sregs::default());
    for segment in [special.cs, special.ds, special.ss, special.tr] {
        let descriptor = DESCRIPTORS[usize::from(segment.selector / 8)];
        let field = |shift: u32, width: u32| (descriptor >> shift) & ((1 << width) - 1);
        let limit = field(0, 16) | field(48, 4) << 16;
        let limit = if segment.g == 1 {
            limit << 12 | 0xfff
        } else {
            limit
        };
        assert_eq!(u64::from(segment.limit), limit);
        assert_eq!(u64::from(segment.type_), field(40, 4));
        assert_eq!(u64::from(segment.s), field(44, 1));
        assert_eq!(u64::from(segment.present), field(47, 1));
        assert_eq!(u64::from(segment.db), field(54, 1));
        assert_eq!(u64::from(segment.g), field(55, 1));
        assert_eq!(segment.base, field(16, 24) | field(56, 8) << 24);
    }
}

#[test]
fn the_entry_is_protected_mode_without_paging() {
    let special = special(kvm_sregs {
        cr0: 0x6000_0010,
        cr4: 1,
        efer: 0x500,
        ..Default::default()
    });
    assert_eq!((special.cr0, special.cr4, special.efer), (0x11, 0, 0));
    assert_eq!(general(0x100_0000).rip, 0x100_0000);
    assert_eq!(general(0x100_0000).rbx, layout::START_INFO);
}

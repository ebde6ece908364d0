//! The part of the contract about guests that mean harm: whatever they write, the device works again after a reset.

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::{Subject, fresh, recovers, started};
use crate::guest::{INDIRECT, NEXT, WRITE};

/// Descriptors (address, length, flags, next) from index 0 on; the chain begins there. The table at `TABLE` is for indirect
/// ones.
type Descriptors = &'static [(u64, u32, u16, u16)];

const TABLE: u64 = 0x80000;
const BUFFER: u64 = 0x90000;

/// Chains that virtio forbids, and what they are.
const MALFORMED: [(&str, Descriptors, Descriptors); 14] = [
    ("outside memory", &[(17 << 20, 64, 0, 0)], &[]),
    ("outside memory", &[(17 << 20, 64, WRITE, 0)], &[]),
    (
        "over the end",
        &[((4 << 30) + (1 << 20) - 32, 64, WRITE, 0)],
        &[],
    ),
    ("around the end", &[(u64::MAX - 31, 64, 0, 0)], &[]),
    ("of huge length", &[(BUFFER, u32::MAX, WRITE, 0)], &[]),
    ("in a loop", &[(BUFFER, 64, NEXT, 0)], &[]),
    (
        "in a longer loop",
        &[(BUFFER, 64, NEXT, 1), (BUFFER, 64, NEXT, 0)],
        &[],
    ),
    ("out of the table", &[(BUFFER, 64, NEXT, 0x4000)], &[]),
    (
        "readable after writable",
        &[(BUFFER, 64, WRITE | NEXT, 1), (BUFFER, 64, 0, 0)],
        &[],
    ),
    (
        "indirect in indirect",
        &[(TABLE, 16, INDIRECT, 0)],
        &[(TABLE, 16, INDIRECT, 0)],
    ),
    ("indirect and on", &[(TABLE, 16, INDIRECT | NEXT, 1)], &[]),
    ("indirect, cut", &[(TABLE, 24, INDIRECT, 0)], &[]),
    ("indirect, empty", &[(TABLE, 0, INDIRECT, 0)], &[]),
    (
        "indirect, out of its table",
        &[(TABLE, 16, INDIRECT, 0)],
        &[(BUFFER, 64, NEXT, 1)],
    ),
];

pub(crate) fn survives_malformed_chains<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    for (name, descriptors, table) in MALFORMED {
        for queue in 0..guest.slot.queue_count() {
            recovers(&mut subject, &mut guest);
            // From a clean slate, so that the table's first descriptors are free.
            guest.start();
            for (start, list) in [(guest.rings(queue), descriptors), (TABLE, table)] {
                for (index, &(address, length, flags, next)) in list.iter().enumerate() {
                    let at = start + index as u64 * 16;
                    guest.write_descriptor(at, address, length, flags, next);
                }
            }
            guest.publish(queue, 0);
            guest.kick(queue);
            guest.host_ready();
            if queue == S::EAGER {
                assert!(guest.is_broken(), "{name}");
                // The driver is told, and nothing is served any more.
                assert_eq!(guest.interrupt() & 2, 2);
                guest.kick(queue);
                assert_eq!(guest.read(0x60), 0);
                guest.write(0x70, 15);
                assert!(guest.is_broken());
            }
        }
    }
    // An index that is not in the table.
    guest.start();
    guest.publish(S::EAGER, u16::MAX);
    guest.kick(S::EAGER);
    assert!(guest.is_broken());
    // Said once, not flooded.
    assert_eq!(guest.told.broken.lock().unwrap().len(), 1);
    recovers(&mut subject, &mut guest);
}

pub(crate) fn survives_jumps_of_the_available_index<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    for index in [0x8000_u16, 0xffff, 0x1000] {
        for queue in 0..guest.slot.queue_count() {
            guest.start();
            let at = GuestAddress(guest.rings(queue) + 0x4002);
            guest.memory.write_obj(index, at).unwrap();
            guest.kick(queue);
            guest.host_ready();
            assert!(guest.is_broken() || queue != S::EAGER);
        }
    }
    recovers(&mut subject, &mut guest);
}

pub(crate) fn survives_rings_outside_memory<S: Subject>() {
    let (mut subject, mut guest) = fresh::<S>();
    for (register, address) in [
        (0x80, 0x1000_0000_u64),
        (0x90, 0x1000_0000),
        (0xa0, 0x1000_0000),
        (0x80, 8),
        (0x90, 1),
        (0xa0, 2),
        (0x80, u64::MAX - 15),
        (0x90, (16 << 20) - 6),
    ] {
        guest.start();
        guest.write(0x70, 0);
        for status in [1, 3] {
            guest.write(0x70, status);
        }
        guest.write(0x24, 1);
        guest.write(0x20, 1);
        guest.write(0x70, 11);
        guest.write(0x30, u32::try_from(S::EAGER).unwrap());
        for (register, address) in [
            (0x80, 0),
            (0x90, 0x4000),
            (0xa0, 0x8000),
            (register, address),
        ] {
            guest.write(register, u32::try_from(address & 0xffff_ffff).unwrap());
            guest.write(register + 4, u32::try_from(address >> 32).unwrap());
        }
        guest.write(0x44, 1);
        guest.write(0x70, 15);
        guest.kick(S::EAGER);
        assert!(guest.is_broken(), "{register:#x} {address:#x}");
    }
    recovers(&mut subject, &mut guest);
}

#[derive(Debug, Clone)]
enum Access {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Status(u8),
    Start,
    Kick(usize),
    HostReady,
}

fn access() -> impl Strategy<Value = Access> {
    let offset = prop_oneof![
        4 => (0_u64..0x48).prop_map(|register| register * 4),
        1 => 0_u64..0x1000,
        1 => any::<u64>(),
    ];
    let width = prop_oneof![
        Just(1_usize),
        Just(2),
        Just(4),
        Just(4),
        Just(4),
        Just(8),
        0_usize..16
    ];
    let value = prop_oneof![
        any::<[u8; 16]>(),
        (0_u8..16).prop_map(|low| {
            let mut bytes = [0; 16];
            bytes[0] = low;
            bytes
        }),
    ];
    let status = prop_oneof![
        Just(0_u8),
        Just(1),
        Just(3),
        Just(11),
        Just(15),
        any::<u8>()
    ];
    prop_oneof![
        1 => (offset.clone(), width.clone()).prop_map(|(offset, width)| Access::Read(offset, width)),
        4 => (offset, width, value)
            .prop_map(|(offset, width, value)| Access::Write(offset, value[..width].to_vec())),
        1 => status.prop_map(Access::Status),
        1 => Just(Access::Start),
        1 => (0_usize..5).prop_map(Access::Kick),
        1 => Just(Access::HostReady),
    ]
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) fn survives_any_register_access<S: Subject>() {
    proptest!(cases(64), |(accesses in proptest::collection::vec(access(), 0..120))| {
        let (mut subject, mut guest) = fresh::<S>();
        for access in accesses {
            match access {
                Access::Read(offset, width) => guest.slot.read(offset, &mut vec![0; width]),
                Access::Write(offset, bytes) => guest.slot.write(offset, &bytes),
                Access::Status(status) => guest.write(0x70, status.into()),
                Access::Start => guest.start(),
                Access::Kick(queue) => guest.slot.kick(queue),
                Access::HostReady => guest.slot.host_ready(),
            }
            guest.told.again.lock().unwrap().clear();
        }
        recovers(&mut subject, &mut guest);
    });
}

/// Addresses around what is worth pointing at.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => BUFFER..BUFFER + 0x1000,
        1 => Just(TABLE),
        1 => 0_u64..0x10000,
        1 => (16_u64 << 20) - 64..(16 << 20) + 64,
        1 => any::<u64>(),
    ]
}

pub(crate) fn survives_any_ring_contents<S: Subject>() {
    let length = prop_oneof![4 => 0_u32..128, 1 => 0_u32..0x20000, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0_u16..4, 1 => 0_u16..8, 1 => any::<u16>()];
    let descriptor = (address(), length, flags, 0_u16..12);
    let table = proptest::collection::vec(descriptor, 1..12);
    let heads = proptest::collection::vec(prop_oneof![8 => 0_u16..12, 1 => any::<u16>()], 0..8);
    let data = proptest::collection::vec(
        prop_oneof![2 => Just(0_u8), 2 => 0_u8..12, 1 => any::<u8>()],
        64,
    );
    let round = (table, heads, data, 0_usize..4, 0_u64..3);
    let rounds = proptest::collection::vec(round, 1..6);
    proptest!(cases(96), |(rounds in rounds)| {
        let (mut subject, mut guest) = started::<S>();
        for (table, heads, data, queue, jump) in rounds {
            let queue = queue % guest.slot.queue_count();
            let rings = guest.rings(queue);
            for (index, &(address, length, flags, next)) in table.iter().enumerate() {
                let start = if jump == 0 { TABLE } else { rings };
                guest.write_descriptor(start + index as u64 * 16, address, length, flags, next);
            }
            guest.memory.write_slice(&data, GuestAddress(BUFFER)).unwrap();
            for head in heads {
                guest.publish(queue, head);
            }
            guest.slot.kick(queue);
            guest.slot.host_ready();
            guest.told.again.lock().unwrap().clear();
            if guest.is_broken() {
                guest.start();
            }
        }
        recovers(&mut subject, &mut guest);
    });
}

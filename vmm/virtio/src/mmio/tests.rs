//! Registers, interrupts and notifications, seen with the simplest device.

use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{Bytes, GuestAddress};

use crate::guest::Guest;
use crate::queue::EVENT_IDX;
use crate::{Entropy, WINDOW};

fn started() -> Guest {
    let mut guest = Guest::new(Entropy::new());
    guest.start();
    guest
}

#[test]
fn tells_what_it_is() {
    let guest = Guest::new(Entropy::new());
    let registers = [0, 4, 8, 0xc, 0x34, 0x60, 0x70, 0xfc].map(|register| guest.read(register));
    assert_eq!(registers, [0x7472_6976, 2, 4, 0x6c6c_7568, 8, 0, 0, 0]);
    assert_eq!(guest.offered(), 1 << 32 | 1 << 29 | 1 << 28);
    // No shared memory, no second queue, no third half of the features.
    assert_eq!(
        [0xb0, 0xb4].map(|register| guest.read(register)),
        [u32::MAX; 2]
    );
    guest.write(0x30, 1);
    assert_eq!(guest.read(0x34), 0);
    guest.write(0x14, 2);
    assert_eq!(guest.read(0x10), 0);
}

#[test]
fn reads_zeros_where_nothing_is() {
    let guest = Guest::new(Entropy::new());
    for width in [0, 1, 2, 3, 5, 8, 16] {
        for offset in [0, 1, 0x70, 0xff, 0x100, WINDOW - 1, u64::MAX] {
            let mut bytes = vec![0xaa; width];
            guest.slot.read(offset, &mut bytes);
            assert_eq!(bytes, vec![0; width], "{width} at {offset:#x}");
            guest.slot.write(offset, &bytes);
        }
    }
    let mut bytes = [0xaa; 4];
    guest.slot.read(1, &mut bytes);
    assert_eq!(bytes, [0; 4]);
}

#[test]
fn interrupts_when_the_driver_wants_it() {
    let mut guest = started();
    let count = |guest: &Guest| guest.told.interrupts.load(Ordering::SeqCst);
    guest.want_interrupt_after(0, 3);
    for _ in 0..2 {
        guest.offer(0, &[], &[16]);
        guest.kick(0);
        assert_eq!((count(&guest), guest.read(0x60)), (0, 0));
    }
    guest.offer(0, &[], &[16]);
    guest.kick(0);
    assert_eq!((count(&guest), guest.read(0x60)), (1, 1));
    // One for many.
    while guest.take(0).is_some() {}
    guest.want_interrupt_after(0, 1);
    for _ in 0..5 {
        guest.offer(0, &[], &[16]);
    }
    guest.kick(0);
    assert_eq!(count(&guest), 2);
    assert_eq!(guest.interrupt(), 1);
    assert_eq!(guest.read(0x60), 0);
    // Nothing new, nothing to say.
    guest.kick(0);
    assert_eq!(count(&guest), 2);
}

#[test]
fn interrupts_by_flag_without_event_index() {
    let mut guest = Guest::new(Entropy::new());
    guest.start_with(guest.offered() & !EVENT_IDX);
    guest.exchange(0, &[], &[16]);
    assert_eq!(guest.interrupt(), 1);
    let flags = GuestAddress(guest.rings(0) + 0x4000);
    guest.memory.write_obj(1_u16, flags).unwrap();
    guest.exchange(0, &[], &[16]);
    assert_eq!(guest.interrupt(), 0);
}

#[test]
fn asks_for_notifications_only_when_it_ran_dry() {
    let mut guest = started();
    let mut kicks = 0;
    for _ in 0..100_000 {
        let before = guest.offered_chains(0);
        guest.offer(0, &[], &[4]);
        kicks += usize::from(guest.kick_if_wanted(0, before));
        guest.take(0).unwrap();
    }
    // It ran dry each time, also across the wrap of the index.
    assert_eq!(kicks, 100_000);
}

#[test]
fn shares_its_time() {
    // A guest that refills its queue from another vCPU cannot be simulated here; a long queue of long buffers can.
    let file = tempfile::tempfile().unwrap();
    file.set_len(16 << 20).unwrap();
    let disk = crate::Block::new(file, crate::Access::ReadOnly, "").unwrap();
    let mut guest = Guest::new(disk);
    guest.start();
    for _ in 0..8 {
        // All the same buffers: a header of zeros, data, status.
        let chain = [(0xe_0000, 16, 0), (4 << 20, 8 << 20, 2), (0xf_0000, 1, 2)];
        guest.offer_buffers(0, &chain);
    }
    guest.slot.kick(0);
    let mut served = 0;
    while guest.take(0).is_some() {
        served += 1;
    }
    assert_eq!(served, 4);
    assert_eq!(*guest.told.again.lock().unwrap(), [0]);
    guest.slot.kick(0);
    while guest.take(0).is_some() {
        served += 1;
    }
    assert_eq!(served, 8);
}

#[test]
fn queue_size_is_a_power_of_two_the_device_allows() {
    let guest = Guest::new(Entropy::new());
    for status in [1, 3] {
        guest.write(0x70, status);
    }
    guest.write(0x24, 1);
    guest.write(0x20, 1);
    guest.write(0x70, 11);
    for size in [0, 3, 16, 0x10000, 0x10004, u32::MAX] {
        guest.write(0x38, size);
    }
    for (register, address) in [(0x80, 0), (0x90, 0x4000), (0xa0, 0x8000)] {
        guest.write(register, address);
    }
    guest.write(0x44, 1);
    guest.write(0x70, 15);
    // Eight are offered, and all are served: the size is still that of the start.
    let memory = &guest.memory;
    for index in 0..8_u64 {
        guest.write_descriptor(index * 16, 0x10_0000, 8, 2, 0);
        memory
            .write_obj(
                u16::try_from(index).unwrap(),
                GuestAddress(0x4004 + index * 2),
            )
            .unwrap();
    }
    memory.write_obj(8_u16, GuestAddress(0x4002)).unwrap();
    guest.kick(0);
    let used: u16 = memory.read_obj(GuestAddress(0x8002)).unwrap();
    assert_eq!(used, 8);
    assert!(!guest.is_broken());
}

#[test]
fn buffers_may_cross_regions_that_adjoin() {
    let mut guest = started();
    let address = (16 << 20) - 10;
    guest.offer_buffers(0, &[(address, 100, 2)]);
    guest.kick(0);
    let answer = guest.take(0).unwrap();
    assert_eq!(answer.length, 100);
    assert_ne!(answer.bytes[10..], [0; 90]);
}

#[test]
fn an_unserved_chain_waits_in_the_saved_state() {
    let mut guest = started();
    let head = guest.offer(0, &[], &[16]);
    let state = guest.slot.save().unwrap();
    guest.move_to(Entropy::new());
    guest.slot.restore(&state).unwrap();
    guest.slot.kick(0);
    assert_eq!(guest.take(0).unwrap().head, head);
}

#[test]
fn an_interrupt_not_yet_acknowledged_is_raised_where_the_state_is_restored() {
    let mut guest = started();
    guest.exchange(0, &[], &[16]);
    let state = guest.slot.save().unwrap();
    guest.move_to(Entropy::new());
    guest.slot.restore(&state).unwrap();
    assert_eq!(guest.told.interrupts.load(Ordering::SeqCst), 1);
    assert_eq!(guest.interrupt(), 1);
}

#[test]
fn a_reset_may_come_while_another_thread_kicks() {
    let mut guest = started();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let slot = guest.slot.clone();
        scope.spawn(|| {
            let slot = slot;
            while !stop.load(Ordering::Relaxed) {
                slot.kick(0);
                slot.host_ready();
                let _ = slot.save();
            }
        });
        for _ in 0..200 {
            guest.offer(0, &[], &[200]);
            guest.write(0x70, 0);
            assert_eq!((guest.read(0x70), guest.read(0x60)), (0, 0));
            guest.start();
            guest.offer(0, &[], &[200]);
            while guest.take(0).is_none() {
                guest.kick(0);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!guest.is_broken());
}

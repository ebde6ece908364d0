//! Machines that stand still: pause, save, restore, clone.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use vm_memory::Bytes;

use super::super::state::MachineState;
use super::*;

const COUNTER: GuestAddress = GuestAddress(0x40_0000);
const FLAG: GuestAddress = GuestAddress(0x40_1000);

/// Confines this process, which keeps the file, and has a machine count in it.
fn counting_in_jail(memory: &File) -> Machine<Running> {
    let kvm = kvm();
    crate::jail::enter(
        &crate::jail::Needs {
            descriptors: &[kvm.as_fd(), memory.as_fd()],
            writes: true,
            saves: true,
            network: crate::jail::Network::None,
            threads: 1,
        },
        &mut crate::jail::Shares::default(),
    );
    let config = VmConfig {
        memory: Memory::SMALLEST,
        ..VmConfig::default()
    };
    let zeros = GuestMemory::new(config.memory).unwrap();
    let machine = Machine::new(kvm, config, zeros).unwrap();
    let machine = machine.boot_code(&COUNT.concat()).unwrap();
    machine.run(None, None).unwrap()
}

/// A machine inside the jail is saved by its first thread, with what that may still call.
#[test]
fn a_machine_is_saved_inside_the_jail() {
    let memory = tempfile::tempfile().unwrap();
    let status = crate::sys::hostile::in_child(|| {
        let machine = counting_in_jail(&memory);
        while counter(machine.memory()) < 10 {
            std::hint::spin_loop();
        }
        let machine = machine.pause().unwrap();
        let state = postcard::to_allocvec(&machine.save().unwrap()).unwrap();
        machine.memory().write_to(&memory).unwrap();
        if state.is_empty() { Err(1) } else { Ok(0) }
    });
    assert!(status.success(), "{status}");
    let copy = GuestMemory::copy_of(Memory::SMALLEST, memory.into()).unwrap();
    assert!(counter(&copy) >= 10);
}

/// The same without an end: its threads leave the guest and enter it again, and none is made anew, which the jail forbids.
#[test]
fn a_machine_is_held_inside_the_jail_and_goes_on() {
    let memory = tempfile::tempfile().unwrap();
    let status = crate::sys::hostile::in_child(|| {
        let mut machine = counting_in_jail(&memory);
        for _ in 0..3 {
            let before = counter(machine.memory());
            while counter(machine.memory()) < before + 10 {
                std::hint::spin_loop();
            }
            let stood_still = machine.hold(|state| {
                let before = counter(machine.memory());
                machine.memory().write_to(&memory).unwrap();
                state.is_ok() && counter(machine.memory()) == before
            });
            assert!(stood_still.unwrap());
        }
        set_flag(machine.memory());
        machine.serve().unwrap();
        if machine.finish().0 == End::Orderly {
            Ok(0)
        } else {
            Err(1)
        }
    });
    assert!(status.success(), "{status}");
    let copy = GuestMemory::copy_of(Memory::SMALLEST, memory.into()).unwrap();
    assert!(counter(&copy) >= 30);
}

/// Counts in memory until the flag is set.
const COUNT: [&[u8]; 4] = [
    &[0xff, 0x05, 0x00, 0x00, 0x40, 0x00], // again: inc dword [COUNTER]
    &[0x80, 0x3d, 0x00, 0x10, 0x40, 0x00, 0x00], // cmp byte [FLAG], 0
    &[0x74, 0xf1],                         // je again
    &END,
];

fn counter(memory: &GuestMemory) -> u32 {
    memory.view().read_obj(COUNTER).unwrap()
}

fn set_flag(memory: &GuestMemory) {
    memory.view().write_obj(1_u8, FLAG).unwrap();
}

/// Waits until the guest has counted on.
fn counts_on(memory: &GuestMemory) {
    let before = counter(memory);
    let start = Instant::now();
    while counter(memory) <= before + 10 {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the guest stands still"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A machine that counts, saved and standing still.
fn counting() -> (Machine<Paused>, MachineState) {
    let machine = guest(&COUNT).run(None, None).unwrap();
    counts_on(machine.memory());
    let machine = machine.pause().unwrap();
    let state = machine.save().unwrap();
    (machine, state)
}

fn clone_of(machine: &Machine<Paused>) -> Machine<Built> {
    let file = tempfile::tempfile().unwrap();
    machine.memory().write_to(&file).unwrap();
    // Sparse: of 32 MiB, a guest of a few bytes has written a few pages.
    assert!(file.metadata().unwrap().blocks() * 512 < 64 << 10);
    let config = machine.config.clone();
    let memory = GuestMemory::copy_of(config.memory, file.into()).unwrap();
    Machine::new(kvm(), config, memory).unwrap()
}

#[test]
fn a_paused_guest_stands_still_and_goes_on() {
    let (machine, _) = counting();
    let before = counter(machine.memory());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(counter(machine.memory()), before);
    let machine = machine.run(None, None).unwrap();
    counts_on(machine.memory());
    let machine = machine.pause().unwrap();
    set_flag(machine.memory());
    assert_eq!(run(machine).0, End::Orderly);
}

#[test]
fn a_state_survives_being_written() {
    let (machine, state) = counting();
    let bytes = postcard::to_allocvec(&state).unwrap();
    let state: MachineState = postcard::from_bytes(&bytes).unwrap();
    let copy = clone_of(&machine).restore(&state).unwrap();
    assert_eq!(counter(copy.memory()), counter(machine.memory()));
    let copy = copy.run(None, None).unwrap();
    counts_on(copy.memory());
    set_flag(copy.memory());
    let mut copy = copy;
    assert_eq!(copy.serve().unwrap(), Happening::Ended);
    assert_eq!(copy.finish().0, End::Orderly);
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(postcard::from_bytes::<MachineState>(&bytes[..length]).is_err());
    }
}

#[test]
fn a_copy_of_a_copy_holds_what_both_wrote() {
    let (machine, _) = counting();
    let size = machine.config.memory;
    let copy = clone_of(&machine).memory;
    let far = GuestAddress(20 << 20);
    copy.view().write_obj(7_u8, far).unwrap();
    let file = tempfile::tempfile().unwrap();
    copy.write_to(&file).unwrap();
    let again = GuestMemory::copy_of(size, file.into()).unwrap();
    assert_eq!(counter(&again), counter(machine.memory()));
    assert_eq!(again.view().read_obj::<u8>(far).unwrap(), 7);
    assert_eq!(machine.memory().view().read_obj::<u8>(far).unwrap(), 0);
}

#[test]
fn clones_share_nothing_they_write() {
    let (machine, state) = counting();
    let at_rest = counter(machine.memory());
    let clones: Vec<_> = (0..3)
        .map(|_| {
            clone_of(&machine)
                .restore(&state)
                .unwrap()
                .run(None, None)
                .unwrap()
        })
        .collect();
    for clone in &clones {
        counts_on(clone.memory());
    }
    assert_eq!(counter(machine.memory()), at_rest);
    set_flag(clones[0].memory());
    for (number, mut clone) in clones.into_iter().enumerate() {
        if number == 0 {
            assert_eq!(clone.serve().unwrap(), Happening::Ended);
        } else {
            counts_on(clone.memory());
        }
        let expected = if number == 0 {
            End::Orderly
        } else {
            End::HungUp
        };
        assert_eq!(clone.finish().0, expected);
    }
    assert_eq!(counter(machine.memory()), at_rest);
}

#[test]
fn no_access_is_lost_however_often_a_guest_is_paused() {
    const PAUSES: usize = 20;
    // Every round is an exit that a pause may hit.
    let machine = guest(&[
        &[0x66, 0xba, 0xf8, 0x03],                   // mov dx, 0x3f8
        &[0xee],                                     // again: out dx, al
        &[0xff, 0x05, 0x00, 0x00, 0x40, 0x00],       // inc dword [COUNTER]
        &[0x80, 0x3d, 0x00, 0x10, 0x40, 0x00, 0x00], // cmp byte [FLAG], 0
        &[0x74, 0xf0],                               // je again
        &END,
    ]);
    let mut machine = machine.run(None, None).unwrap();
    for _ in 0..PAUSES {
        counts_on(machine.memory());
        machine = machine.pause().unwrap().run(None, None).unwrap();
    }
    set_flag(machine.memory());
    assert_eq!(machine.serve().unwrap(), Happening::Ended);
    let rounds = counter(machine.memory());
    let (end, counts) = machine.finish();
    assert_eq!(end, End::Orderly);
    // One for each round, and the end.
    assert_eq!(counts.port, u64::from(rounds) + 1);
    assert!(counts.interrupted >= PAUSES as u64);
}

/// Of a guest that is younger than a second, where the host lets it be, which is what KVM before Linux 6.8 needs help with.
#[test]
fn time_goes_on_where_it_was_however_young_a_guest_is() {
    let machine = built(2).boot_code(&COUNT.concat()).unwrap();
    let machine = machine.run(None, None).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let machine = machine.pause().unwrap();
    let copy = clone_of(&machine);
    let milliseconds = |machine: &Machine<Paused>| {
        machine
            .state
            .vcpus
            .iter()
            .map(|vcpu| {
                let (ticks, each) = vcpu.clock().unwrap();
                Duration::from_millis(ticks / each)
            })
            .collect::<Vec<_>>()
    };
    let start = Instant::now();
    let saved = milliseconds(&machine);
    let copy = copy.restore(&machine.save().unwrap()).unwrap();
    let restored = milliseconds(&copy);
    let most = 2 * start.elapsed() + Duration::from_millis(100);
    for (saved, restored) in saved.into_iter().zip(restored) {
        assert!(restored >= saved, "{restored:?} after {saved:?}");
        assert!(restored <= saved + most, "{restored:?} after {saved:?}");
    }
}

#[test]
fn another_shape_is_refused() {
    let (machine, state) = counting();
    let mut two = clone_of(&machine);
    two.config.cpus = Cpus::new(2).unwrap();
    assert!(
        matches!(two.restore(&state), Err(MachineError::Other(what)) if what == "1 processors")
    );
    let mut more = clone_of(&machine);
    more.plug(Entropy::new()).unwrap();
    assert!(matches!(more.restore(&state), Err(MachineError::Other(_))));
    let file = tempfile::tempfile().unwrap();
    machine.memory().write_to(&file).unwrap();
    assert!(GuestMemory::copy_of(Memory::DEFAULT, file.into()).is_err());
}

#[test]
fn processors_and_devices_come_back_too() {
    let mut machine = built(4);
    machine.plug(Entropy::new()).unwrap();
    let machine = machine
        .boot_code(&COUNT.concat())
        .unwrap()
        .run(None, None)
        .unwrap();
    counts_on(machine.memory());
    let machine = machine.pause().unwrap();
    let state = machine.save().unwrap();
    let mut copy = clone_of(&machine);
    copy.plug(Entropy::new()).unwrap();
    let mut copy = copy.restore(&state).unwrap().run(None, None).unwrap();
    counts_on(copy.memory());
    assert_eq!(copy.finish().0, End::HungUp);
}

//! A guest of a few bytes, in the jail, goes on while its memory is written.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::config::{Memory, VmConfig};
use crate::jail::{Needs, Network, Shares};
use crate::machine::report::End;
use crate::machine::{Happening, Machine, Running};
use crate::vmm::{Order, Rest, rest};

/// Two numbers in pages far apart, and what ends the guest.
const FIRST: GuestAddress = GuestAddress(0x40_0000);
const LAST: GuestAddress = GuestAddress(0x3f0_0000);
const FLAG: GuestAddress = GuestAddress(0x40_1000);

/// Counts both up, one after the other, until the flag is set.
const COUNT: [&[u8]; 5] = [
    &[0xff, 0x05, 0x00, 0x00, 0x40, 0x00], // again: inc dword [FIRST]
    &[0xff, 0x05, 0x00, 0x00, 0xf0, 0x03], // inc dword [LAST]
    &[0x80, 0x3d, 0x00, 0x10, 0x40, 0x00, 0x00], // cmp byte [FLAG], 0
    &[0x74, 0xeb],                         // je again
    &[0xb0, 0xfe, 0xe6, 0x64],             // mov al, 0xfe; out 0x64, al
];

fn size() -> Memory {
    Memory::mib(64).unwrap()
}

fn number(memory: &GuestMemory, at: GuestAddress) -> u32 {
    memory.view().read_obj(at).unwrap()
}

/// Waits until the guest has counted on.
fn counts_on(machine: &Machine<Running>) {
    let (before, start) = (number(machine.memory(), LAST), Instant::now());
    while number(machine.memory(), LAST) < before + 10 {
        let late = start.elapsed() > Duration::from_secs(10);
        assert!(!late, "the guest stands still");
    }
}

/// In a process in the jail: a machine that counts, with much in its memory, is written down a few times, with its memory in this
/// file. Gives how often that was in vain.
fn failures(memory: &File, rounds: u32, prepare: impl FnOnce()) -> Option<i32> {
    let status = sys::hostile::in_child(|| {
        sys::wait_for_no_children();
        let kvm = File::options().read(true).write(true).open("/dev/kvm");
        let kvm = OwnedFd::from(kvm.expect("machine tests need /dev/kvm"));
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (launcher, ours) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let files: Vec<Rest> = (0..rounds)
            .map(|_| Rest {
                machine: tempfile::tempfile().unwrap().into(),
                memory: memory.try_clone().unwrap().into(),
            })
            .collect();
        let of_files = files.iter().flat_map(|rest| [&rest.machine, &rest.memory]);
        let kept = [&kvm, &launcher, &ours].into_iter().chain(of_files);
        let needs = Needs {
            descriptors: &kept.map(AsFd::as_fd).collect::<Vec<_>>(),
            writes: true,
            saves: true,
            network: Network::None,
            threads: 1,
        };
        prepare();
        jail::enter(&needs, &mut Shares::default());
        let mut machine = running(kvm, ours.as_fd());
        let mut failures = 0;
        for rest in files {
            counts_on(&machine);
            // What the launcher says when it has heard of it.
            Order::GoOn.send(&launcher).unwrap();
            let writer = rest::part(&machine, rest, ours.as_fd()).unwrap();
            let word = receive_word(&launcher).unwrap();
            assert!(matches!(word, Word::Held(Ok(()))), "{word:?}");
            counts_on(&machine);
            assert_eq!(machine.serve().unwrap(), Happening::Written);
            failures += i32::from(writer.result().is_err());
        }
        machine.memory().view().write_obj(1_u8, FLAG).unwrap();
        assert_eq!(machine.serve().unwrap(), Happening::Ended);
        assert_eq!(machine.finish().0, End::Orderly);
        if failures == 0 { Ok(0) } else { Err(failures) }
    });
    status.code()
}

/// A machine that counts, with 40 MiB in its memory.
fn running(kvm: OwnedFd, control: BorrowedFd<'_>) -> Machine<Running> {
    let config = VmConfig {
        memory: size(),
        ..VmConfig::default()
    };
    let memory = GuestMemory::new(size()).unwrap();
    let (filling, between) = (vec![7; 40 << 20], GuestAddress(8 << 20));
    memory.view().write_slice(&filling, between).unwrap();
    let machine = Machine::new(kvm, config, memory).unwrap();
    let machine = machine.boot_code(&COUNT.concat()).unwrap();
    machine.run(Some(control), None).unwrap()
}

#[test]
fn what_is_written_is_of_one_moment_while_the_guest_goes_on() {
    let file = tempfile::tempfile().unwrap();
    // More often than processes may be left over.
    assert_eq!(failures(&file, 5, || {}), Some(0));
    let copy = GuestMemory::copy_of(size(), file.into()).unwrap();
    let (first, last) = (number(&copy, FIRST), number(&copy, LAST));
    assert!(
        first >= 10 && (first == last || first == last + 1),
        "{first} {last}"
    );
    let mut filling = [0; 4];
    let inside = GuestAddress(20 << 20);
    copy.view().read_slice(&mut filling, inside).unwrap();
    assert_eq!(filling, [7; 4]);
}

#[test]
fn a_writer_that_cannot_write_or_is_killed_is_told_of_and_the_guest_goes_on() {
    let device = File::options().read(true).write(true).open("/dev/full");
    assert_eq!(failures(&device.unwrap(), 2, || {}), Some(2));
    // A file that grows beyond the limit kills.
    let short = || {
        let bytes = Some(16 << 20);
        let limit = Rlimit {
            current: bytes,
            maximum: bytes,
        };
        setrlimit(Resource::Fsize, limit).unwrap();
    };
    let file = tempfile::tempfile().unwrap();
    assert_eq!(failures(&file, 2, short), Some(2));
}

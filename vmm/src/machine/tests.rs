//! Guests of a few bytes on a real KVM, also one that interprets kernel code: every way a machine can end, and standing still.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use virtio::Entropy;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::config::{Cpus, Memory};

mod still;

/// mov al, 0xfe; out 0x64, al
const END: [u8; 4] = [0xb0, 0xfe, 0xe6, 0x64];
/// ud2: without an IDT, a triple fault.
const FAULT: [u8; 2] = [0x0f, 0x0b];

fn kvm() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .expect("machine tests need /dev/kvm")
        .into()
}

fn built(cpus: u64) -> Machine<Built> {
    let config = VmConfig {
        memory: Memory::SMALLEST,
        cpus: Cpus::new(cpus).unwrap(),
        timings: true,
        ..VmConfig::default()
    };
    let memory = GuestMemory::new(config.memory).unwrap();
    Machine::new(kvm(), config, memory).unwrap()
}

fn guest(code: &[&[u8]]) -> Machine<Paused> {
    built(1).boot_code(&code.concat()).unwrap()
}

/// Runs until the guest ends.
fn run(machine: Machine<Paused>) -> (End, report::Counts) {
    let mut machine = machine.run(None, None).unwrap();
    assert_eq!(machine.serve().unwrap(), Happening::Ended);
    machine.finish()
}

#[test]
fn pulling_the_reset_line_is_the_orderly_end() {
    let (end, counts) = run(guest(&[&END]));
    assert_eq!(end, End::Orderly);
    assert_eq!((counts.port, counts.other, counts.mmio), (1, 1, 0));
    assert!(
        (8192..=4 << 20).contains(&counts.memory_touched),
        "{counts:?}"
    );
}

#[test]
fn a_fault_without_an_idt_is_a_triple_fault() {
    let (end, counts) = run(guest(&[&FAULT]));
    assert_eq!((end, counts.other), (End::TripleFault, 1));
}

#[test]
fn a_panic_is_told_from_the_reset_that_follows() {
    let text = b"Kernel panic - not syncing: no \x1b[31minit\n";
    // mov dx, 0x3f8; then for each byte: mov al, byte; out dx, al
    let mut code = vec![0x66, 0xba, 0xf8, 0x03];
    for byte in text {
        code.extend([0xb0, *byte, 0xee]);
    }
    let (end, counts) = run(guest(&[&code, &END]));
    assert_eq!(
        end,
        End::Panic {
            message: "no \\u{1b}[31minit".to_owned()
        }
    );
    assert_eq!(counts.port, text.len() as u64 + 1);
}

#[test]
fn addresses_without_anything_read_as_ones() {
    for address in [0xd050_0000_u32, 0xc000_0000, 0x0200_0000, 0xfec1_0000] {
        let [a, b, c, d] = address.to_le_bytes();
        let (end, counts) = run(guest(&[
            &[0xa1, a, b, c, d], // mov eax, [address]
            &[0xa3, a, b, c, d], // mov [address], eax
            &[0x83, 0xf8, 0xff], // cmp eax, -1
            &[0x74, 0x02],       // je over the fault
            &FAULT,
            &END,
        ]));
        assert_eq!(end, End::Orderly, "{address:#x}");
        assert_eq!(counts.mmio, 2);
    }
}

#[test]
fn ports_without_anything_read_as_ones() {
    let (end, _) = run(guest(&[
        &[0x66, 0xba, 0xfc, 0x0c], // mov dx, 0xcfc
        &[0xed],                   // in eax, dx
        &[0x83, 0xf8, 0xff],       // cmp eax, -1
        &[0x74, 0x02],             // je over the fault
        &FAULT,
        &END,
    ]));
    assert_eq!(end, End::Orderly);
}

/// A guest that would go on for ever is ended when the launcher hangs up.
fn ends_when_hung_up(code: &[&[u8]], cpus: u64) {
    let machine = built(cpus).boot_code(&code.concat()).unwrap();
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let mut machine = machine.run(Some(theirs.as_fd()), None).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    drop(ours);
    let start = Instant::now();
    assert_eq!(machine.serve().unwrap(), Happening::Control);
    let (end, counts) = machine.finish();
    // Microseconds on an idle machine; emulated hosts that share theirs take longer.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(end, End::HungUp);
    assert!(counts.interrupted >= 1);
}

#[test]
fn an_endless_loop_can_be_ended() {
    ends_when_hung_up(&[&[0xeb, 0xfe]], 1);
}

#[test]
fn an_endless_stream_of_exits_can_be_ended() {
    ends_when_hung_up(&[&[0xe6, 0x80, 0xeb, 0xfc]], 1); // out 0x80, al; jmp
}

#[test]
fn a_halted_guest_can_be_ended() {
    ends_when_hung_up(&[&[0xfa, 0xf4, 0xeb, 0xfc]], 1); // cli; hlt; jmp
}

#[test]
fn processors_that_were_never_started_can_be_ended() {
    ends_when_hung_up(&[&[0xeb, 0xfe]], 16);
}

/// What a thread of its own serves is left to it, for its system calls are no other's.
#[test]
fn a_device_is_woken_by_the_thread_that_serves_it() {
    let mut machine = built(1);
    for server in [Server::Main, Server::Network] {
        machine.plug_for(server, Entropy::new()).unwrap();
    }
    let kicked = machine.devices.iter().map(|device| {
        device.wake();
        device.was_kicked(0)
    });
    assert_eq!(kicked.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_notification_reaches_the_device_without_an_exit() {
    let mut machine = built(1);
    machine.plug(Entropy::new()).unwrap();
    let (end, counts) = run(machine
        .boot_code(
            &[
                &[0x31, 0xc0][..],               // xor eax, eax
                &[0xa3, 0x50, 0x00, 0x00, 0xd0], // mov [0xd0000050], eax: kick queue 0
                &[0x40],                         // inc eax
                &[0xa3, 0x50, 0x00, 0x00, 0xd0], // kick queue 1, which does not exist: an exit
                &[0xa1, 0x00, 0x00, 0x00, 0xd0], // mov eax, [0xd0000000]: the magic number
                &[0x3d, b'v', b'i', b'r', b't'], // cmp eax, "virt"
                &[0x74, 0x02],                   // je over the fault
                &FAULT,
                &END,
            ]
            .concat(),
        )
        .unwrap());
    assert_eq!(end, End::Orderly);
    assert_eq!(counts.mmio, 2);
    assert!(counts.kicks <= 1);
    assert_eq!(
        counts.unused_devices,
        [("entropy".to_owned(), "CONFIG_HW_RANDOM_VIRTIO".to_owned())]
    );
}

/// mov dword [0xd0000000 + register], value
fn write(register: u8, value: u32) -> Vec<u8> {
    [
        &[0xc7, 0x05, register, 0x00, 0x00, 0xd0],
        &value.to_le_bytes()[..],
    ]
    .concat()
}

#[test]
fn addresses_of_queues_reach_the_device_without_exits_and_in_time() {
    let mut machine = built(1);
    machine.plug(Entropy::new()).unwrap();
    let memory = machine.memory.view().clone();
    // One chain: 16 bytes for the device to write.
    let descriptor = [0x20_3000_u64.to_le_bytes(), [16, 0, 0, 0, 2, 0, 0, 0]].concat();
    for (address, bytes) in [(0x20_0000, &descriptor[..]), (0x20_1000, &[0, 0, 1, 0])] {
        memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }
    let steps = [
        (0x70, 1),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x80, 0x20_0000),
        (0x90, 0x20_1000),
        (0xa0, 0x20_2000),
        (0x44, 1),
        (0x70, 15),
        (0x50, 0),
    ];
    let wait = [
        &[0xb9, 0x00, 0x00, 0x10, 0x00][..], // mov ecx, 1 << 20
        &[0xe6, 0x80],                       // out 0x80, al
        &[0x66, 0x83, 0x3d, 0x02, 0x20, 0x20, 0x00, 0x00], // cmp word [0x202002], 0: the used index
        &[0x75, 0x05],                       // jne over the loop and the fault
        &[0x49],                             // dec ecx
        &[0x75, 0xf1],                       // jnz to the out
        &FAULT,
        &END,
    ];
    let code = steps.map(|(register, value)| write(register, value));
    let (end, counts) = run(machine
        .boot_code(&[code.concat(), wait.concat()].concat())
        .unwrap());
    assert_eq!(end, End::Orderly);
    assert_eq!(counts.mmio, 7);
    let mut random = [0; 16];
    memory
        .read_slice(&mut random, GuestAddress(0x20_3000))
        .unwrap();
    assert_ne!(random, [0; 16]);
}

#[test]
fn memory_above_4_gib_is_there() {
    let config = VmConfig {
        memory: Memory::mib(3072 + 64).unwrap(),
        ..VmConfig::default()
    };
    let memory = GuestMemory::new(config.memory).unwrap();
    let top = (4096_u64 + 64) << 20;
    memory
        .view()
        .write_obj(7_u8, GuestAddress(top - 1))
        .unwrap();
    assert!(memory.view().write_obj(7_u8, GuestAddress(top)).is_err());
    let touched = memory.touched().unwrap();
    assert!((4096..=2 << 20).contains(&touched), "{touched}");
    let machine = Machine::new(kvm(), config, memory)
        .unwrap()
        .boot_code(&END)
        .unwrap();
    assert_eq!(run(machine).0, End::Orderly);
}

#[test]
fn there_are_as_many_places_as_lines() {
    let mut machine = built(1);
    for _ in 0..layout::MOST_DEVICES {
        machine.plug(Entropy::new()).unwrap();
    }
    assert!(matches!(
        machine.plug(Entropy::new()),
        Err(MachineError::Plug(PlugError::TooMany))
    ));
}

//! A guest's end that is not the command's says what it was: a panic, a triple fault, a VMM that is gone.

use std::time::Duration;

use rustix::process::Signal;
use tests::fixture::scratch;
use tests::vm;

/// A kernel of one instruction that matters: it forgets its interrupt table and then breaks.
///
/// An ELF file with one segment at 16 MiB and the note that names a 32-bit entry point (Xen, public/elfnote.h,
/// XEN_ELFNOTE_PHYS32_ENTRY).
fn breaking_kernel() -> Vec<u8> {
    const BASE: u32 = 0x0100_0000;
    let mut file = Vec::new();
    let (code_at, note_at) = (0x1000_u64, 0x200_u64);
    // lidt [BASE + 0x100], where zeros say: no table; ud2.
    let mut code = vec![0x0f, 0x01, 0x1d];
    code.extend_from_slice(&(BASE + 0x100).to_le_bytes());
    code.extend_from_slice(&[0x0f, 0x0b]);
    code.resize(0x1000, 0);
    let mut note = Vec::new();
    for word in [4_u32, 4, 18] {
        note.extend_from_slice(&word.to_le_bytes());
    }
    note.extend_from_slice(b"Xen\0");
    note.extend_from_slice(&BASE.to_le_bytes());

    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&2_u16.to_le_bytes());
    file.extend_from_slice(&62_u16.to_le_bytes());
    file.extend_from_slice(&1_u32.to_le_bytes());
    for word in [u64::from(BASE), 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    let mut segment = |kind: u32, flags: u32, offset: u64, address: u64, size: u64, align: u64| {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, address, address, size, size, align] {
            file.extend_from_slice(&word.to_le_bytes());
        }
    };
    segment(1, 7, code_at, u64::from(BASE), code.len() as u64, 0x1000);
    segment(4, 4, note_at, 0, note.len() as u64, 4);
    file.resize(0x200, 0);
    file.extend_from_slice(&note);
    file.resize(0x1000, 0);
    file.extend_from_slice(&code);
    file
}

#[test]
fn a_triple_fault_is_called_so() {
    let directory = scratch("triple").unwrap();
    let kernel = directory.join("kernel");
    std::fs::write(&kernel, breaking_kernel()).unwrap();
    vm().option("--kernel")
        .option(&kernel)
        .run("true")
        .exits(125)
        .complains("triple fault");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_panic_is_called_so() {
    // A library whose initramfs has no init: the kernel has nothing to start.
    let directory = scratch("panic").unwrap();
    let library = tests::target().join("hull/lib/hull");
    for file in ["vmlinux", "vmlinux-smp"] {
        std::os::unix::fs::symlink(library.join(file), directory.join(file)).unwrap();
    }
    std::fs::write(directory.join("initramfs"), [0; 512]).unwrap();
    vm().host_env("HULL_LIB", &directory)
        .run("true")
        .exits(125)
        .complains("panic");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_kernel_that_is_none_is_refused() {
    vm().options(["--kernel", "/etc/passwd"])
        .run("true")
        .exits(125)
        .complains("ELF");
    vm().options(["--kernel", "/no/such/kernel"])
        .run("true")
        .exits(125)
        .complains("/no/such/kernel");
}

#[test]
fn a_vmm_that_is_killed_is_missed() {
    let mut running = vm()
        .command(["sh", "-c", "echo ready; exec sleep 1000"])
        .start();
    running.wait_for("ready");
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.id())).unwrap();
    let vmm: i32 = children
        .split_whitespace()
        .next()
        .expect("the launcher has a child")
        .parse()
        .unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(vmm).unwrap(), Signal::KILL)
        .unwrap();
    running.finish().exits(125).complains("error:");
}

#[test]
fn a_guest_that_powers_off_by_itself_ends_the_run() {
    let outcome = vm()
        .option("--cap-add=SYS_BOOT")
        .run("reboot -f; sleep 1000");
    assert_ne!(outcome.status.code(), Some(0), "{outcome:?}");
}

#[test]
fn an_init_that_dies_is_told() {
    // Root in a privileged container can write into any process, and zeros crash one.
    let script = "read range rest <<END
$(grep r-xp /proc/1/maps)
END
        start=${range%%-*}
        dd if=/dev/zero of=/proc/1/mem bs=4096 count=16 seek=$((0x$start / 4096)) conv=notrunc
        sleep 1000";
    vm().option("--privileged")
        .run(script)
        .exits(125)
        .complains("Attempted to kill init");
}

#[test]
fn a_run_that_does_not_end_is_looked_at() {
    let place = scratch("late").unwrap();
    let late = vm().host_env("HULL_ROOT", place.join("store"));
    let late = late.limit(Duration::from_secs(40));
    let panic = std::panic::catch_unwind(|| late.run("sleep 1000")).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("The run took longer than 40s"), "{said}");
    // The guest's interrupts, twice, and the launcher, the supervisor and two threads of the VMM.
    assert_eq!(said.matches("\nintr ").count(), 2, "{said}");
    assert!(said.matches(" waits in ").count() >= 4, "{said}");
    std::fs::remove_dir_all(place).unwrap();
}

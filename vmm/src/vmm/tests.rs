//! What the launcher is told when there is no guest to tell of.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::config::VmConfig;
use crate::sys::hostile::in_child;

fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.into()
}

fn last_word(launcher: &OwnedFd) -> Report {
    match receive_word(launcher).unwrap() {
        Word::Report(report) => report,
        other => panic!("nobody asked for {other:?}"),
    }
}

/// The report on a start with this KVM and this kernel, and how long it took.
fn report(kvm: &str, kernel: &[u8], disk: &[u8]) -> (Report, Duration) {
    let (ours, theirs) = sockets();
    let start = Start {
        config: VmConfig::default(),
        kvm: File::options()
            .read(true)
            .write(true)
            .open(kvm)
            .unwrap()
            .into(),
        kernel: file(kernel),
        initramfs: file(b""),
        channel: sockets().0,
        disks: vec![DiskFile {
            file: file(disk),
            read_only: true,
        }],
        goal: Goal::Boot,
        ports: Vec::new(),
        journal: None,
        neighbours: None,
        tap: None,
        servers: None,
        shares: Vec::new(),
    };
    start.send(&ours).unwrap();
    drop(start);
    let began = Instant::now();
    // In a process of its own: it enters a jail.
    let status = in_child(|| match serve(theirs.as_fd()) {
        ExitCode::SUCCESS => Ok(0),
        _ => Err(1),
    });
    assert!(status.success(), "{status}");
    (last_word(&ours), began.elapsed())
}

#[test]
fn without_orders_there_is_nobody_to_tell() {
    let (ours, theirs) = sockets();
    drop(ours);
    assert_eq!(serve(theirs.as_fd()), ExitCode::FAILURE);
}

#[test]
fn garbage_is_answered_with_the_reason() {
    let (ours, theirs) = sockets();
    rustix::net::send(&ours, &[0xff; 9], rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(serve(theirs.as_fd()), ExitCode::SUCCESS);
    let End::Failed { cause } = last_word(&ours).end else {
        panic!("not a failure")
    };
    assert!(
        cause.starts_with("The VMM got no orders: A message between launcher and VMM is malformed"),
        "{cause}"
    );
}

#[test]
fn a_host_that_interprets_kernels_says_so_in_time() {
    let (report, took) = report("/dev/kvm", b"no kernel", &[0; 512]);
    match report.end {
        End::Emulation { reason } => {
            assert!(!probe::has_virtualisation());
            assert!(reason.contains("interprets kernel code"), "{reason}");
        }
        End::Failed { cause } => {
            assert!(probe::has_virtualisation());
            assert!(
                cause.starts_with("The kernel cannot be started: It is not a 64-bit x86 ELF file"),
                "{cause}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Twenty milliseconds on an idle machine; emulated hosts that share theirs take longer.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(report.timings.started > 0 && report.timings.received >= report.timings.started);
    assert_eq!(report.timings.entered, 0);
}

#[test]
fn another_device_than_kvm_is_a_failure() {
    let (report, _) = report("/dev/null", b"no kernel", &[0; 512]);
    let End::Failed { cause } = report.end else {
        panic!("{:?}", report.end)
    };
    let expected = if probe::has_virtualisation() {
        "Creating a virtual machine failed"
    } else {
        "This host cannot run guests"
    };
    assert!(cause.starts_with(expected), "{cause}");
}

/// Why a machine cannot be restored from these bytes and a memory so long.
fn refusal(machine: &[u8], memory: u64) -> String {
    let start = Start {
        config: VmConfig::default(),
        kvm: file(b""),
        kernel: file(b""),
        initramfs: file(b""),
        channel: sockets().0,
        disks: vec![],
        ports: vec![],
        journal: None,
        neighbours: None,
        tap: None,
        servers: None,
        goal: Goal::Boot,
        shares: Vec::new(),
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(machine).unwrap();
    let memory_file = tempfile::tempfile().unwrap();
    memory_file.set_len(memory).unwrap();
    let rest = Rest {
        machine: file.reopen().unwrap().into(),
        memory: memory_file.into(),
    };
    match rest::pour(
        &start,
        &jail::Shares::default(),
        &rest,
        Survivors::Kept,
        &mut Timings::default(),
    ) {
        Ok(_) => panic!("restored"),
        Err(error) => chain(&error),
    }
}

#[test]
fn what_is_no_saved_machine_is_refused_with_the_reason() {
    let encode = |state: &[u8]| {
        let (about, pages) = (&b""[..], &b""[..]);
        crate::snapshot::encode(&crate::snapshot::Parts {
            about,
            pages,
            state,
        })
    };
    let size = VmConfig::default().memory.bytes();
    assert_eq!(refusal(b"", size), "The file holds no saved machine");
    let whole = encode(&[0xff; 4]);
    let cut = refusal(&whole[..whole.len() - 1], size);
    assert!(cut.contains("bytes, and says that it has"), "{cut}");
    let mut other = whole.clone();
    other[whole.len() - 1] = 1;
    assert_eq!(
        refusal(&other, size),
        "The saved machine is damaged: its sum is wrong"
    );
    // Its frame is right, and what is in it is nothing.
    let nothing = refusal(&whole, size);
    assert!(
        nothing.starts_with("The saved machine is damaged"),
        "{nothing}"
    );
}

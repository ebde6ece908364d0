//! Both messages over a real socket pair.

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::machine::report::{Counts, End, Timings};

fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

fn file() -> OwnedFd {
    rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

fn inode(file: &OwnedFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

fn start(disks: usize) -> Start {
    let disks = (0..disks)
        .map(|number| DiskFile {
            file: file(),
            read_only: number == 0,
        })
        .collect();
    Start {
        config: VmConfig::default(),
        kvm: file(),
        kernel: file(),
        initramfs: file(),
        channel: file(),
        disks,
        ports: Vec::new(),
        journal: None,
        neighbours: None,
        tap: None,
        servers: None,
        shares: Vec::new(),
        goal: Goal::Boot,
    }
}

#[test]
fn the_files_of_a_saved_machine_arrive_in_their_places() {
    let (ours, theirs) = sockets();
    let rest = || Rest {
        machine: file(),
        memory: file(),
    };
    let about = b"of an image".to_vec();
    let goals = [
        Goal::Restore {
            rest: rest(),
            or_boot: false,
        },
        Goal::Save {
            rest: rest(),
            about,
        },
    ];
    for goal in goals {
        let sent = Start { goal, ..start(1) };
        sent.send(&ours).unwrap();
        let received = Start::receive(&theirs).unwrap();
        let inodes = |goal: &Goal| goal.rest().map(|r| [inode(&r.machine), inode(&r.memory)]);
        assert_eq!(inodes(&received.goal), inodes(&sent.goal));
        assert_eq!(inode(&received.disks[0].file), inode(&sent.disks[0].file));
        match (&received.goal, &sent.goal) {
            (Goal::Restore { .. }, Goal::Restore { or_boot, .. }) => assert!(!or_boot),
            (Goal::Save { about, .. }, Goal::Save { .. }) => assert_eq!(about, b"of an image"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn descriptors_arrive_in_their_places() {
    let (ours, theirs) = sockets();
    let mut sent = start(2);
    for (transport, guest) in [(Transport::Udp, 53), (Transport::Tcp, 80)] {
        sent.ports.push(Port {
            transport,
            guest,
            socket: file(),
        });
    }
    let (log, counts) = (file(), file());
    let inodes = [inode(&log), inode(&counts)];
    sent.journal = Some(Files { log, counts });
    sent.tap = Some(file());
    sent.send(&ours).unwrap();
    let received = Start::receive(&theirs).unwrap();
    assert_eq!(received.config, sent.config);
    assert_eq!(inode(&received.kvm), inode(&sent.kvm));
    assert_eq!(inode(&received.kernel), inode(&sent.kernel));
    assert_eq!(inode(&received.initramfs), inode(&sent.initramfs));
    assert_eq!(inode(&received.channel), inode(&sent.channel));
    let disks: Vec<_> = received
        .disks
        .iter()
        .map(|disk| (inode(&disk.file), disk.read_only))
        .collect();
    assert_eq!(
        disks,
        [
            (inode(&sent.disks[0].file), true),
            (inode(&sent.disks[1].file), false)
        ]
    );
    let ports = |start: &Start| -> Vec<_> {
        let ports = start.ports.iter();
        ports
            .map(|port| (port.transport, port.guest, inode(&port.socket)))
            .collect()
    };
    assert_eq!(ports(&received), ports(&sent));
    let journal = received.journal.as_ref().unwrap();
    assert_eq!([inode(&journal.log), inode(&journal.counts)], inodes);
    assert_eq!(
        received.tap.as_ref().map(inode),
        sent.tap.as_ref().map(inode)
    );
    assert_ne!(received.kvm.as_raw_fd(), sent.kvm.as_raw_fd());
}

#[test]
fn the_most_disks_fit_and_one_more_does_not() {
    let (ours, theirs) = sockets();
    start(MOST_DISKS).send(&ours).unwrap();
    assert_eq!(Start::receive(&theirs).unwrap().disks.len(), MOST_DISKS);
    assert!(matches!(
        start(MOST_DISKS + 1).send(&ours),
        Err(StartError::Disks(9))
    ));
}

#[test]
fn the_most_ports_fit_beside_them_and_one_more_does_not() {
    let (ours, theirs) = sockets();
    let mut most = start(MOST_DISKS);
    let port = || Port {
        transport: Transport::Tcp,
        guest: 65535,
        socket: file(),
    };
    most.journal = Some(Files {
        log: file(),
        counts: file(),
    });
    most.ports.extend((0..MOST_PORTS).map(|_| port()));
    most.send(&ours).unwrap();
    assert_eq!(Start::receive(&theirs).unwrap().ports.len(), MOST_PORTS);
    most.ports.push(port());
    assert!(matches!(most.send(&ours), Err(StartError::Ports(_))));
}

#[test]
fn a_closed_socket_is_told_from_garbage() {
    let (ours, theirs) = sockets();
    rustix::net::send(&ours, &[0xff; 40], SendFlags::empty()).unwrap();
    assert!(matches!(
        Start::receive(&theirs),
        Err(StartError::Malformed(_))
    ));
    let text = postcard::to_allocvec(&Letter {
        config: VmConfig::default(),
        shares_read_only: Vec::new(),
        read_only: vec![],
        goal: Purpose::Boot,
        ports: vec![],
        journal: false,
        neighbours: false,
        tap: false,
        servers: false,
    })
    .unwrap();
    rustix::net::send(&ours, &text, SendFlags::empty()).unwrap();
    assert!(matches!(
        Start::receive(&theirs),
        Err(StartError::Descriptors(0))
    ));
    drop(ours);
    assert!(matches!(Start::receive(&theirs), Err(StartError::Closed)));
}

#[test]
fn a_report_comes_back_whole() {
    let (ours, theirs) = sockets();
    let report = Report {
        end: End::Panic {
            message: "Attempted to kill init!".to_owned(),
        },
        counts: Counts {
            port: 3,
            kicks: 9,
            unused_devices: vec![("a".into(), "b".into())],
            ..Counts::default()
        },
        timings: Timings {
            started: 1,
            tsc_khz: 1_000_000,
            ..Timings::default()
        },
    };
    send_word(&theirs, &Word::Report(report.clone())).unwrap();
    let Word::Report(told) = receive_word(&ours).unwrap() else {
        panic!("no report")
    };
    assert_eq!(told, report);
    assert_eq!(report.counts.exits(), 3);
    drop(theirs);
    assert!(matches!(receive_word(&ours), Err(StartError::Closed)));
}

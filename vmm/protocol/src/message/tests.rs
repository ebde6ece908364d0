//! Golden bytes: one per message, so that a change of the encoding is seen.

use crate::{
    Address, Attach, Bounds, Bytes, Change, Container, Entry, EntryKind, Failure, FromGuest,
    FromHost, Hello, Item, Limit, Message, MountFlags, Network, Opening, Privileges, Process,
    ProcessId, Renewal, Route, Status, Stream, Sysctl, Tmpfs, VERSION, Volume, WindowSize, Work,
    encode, read,
};

#[track_caller]
fn golden<M: Message + PartialEq + std::fmt::Debug>(message: &M, frame: &[u8]) {
    let encoded = encode(message).unwrap();
    assert_eq!(
        encoded.escape_ascii().to_string(),
        frame.escape_ascii().to_string()
    );
    assert_eq!(read::<M>(&mut &*encoded).unwrap().as_ref(), Some(message));
}

#[test]
fn hello() {
    golden(
        &Opening::Hello(Hello {
            version: VERSION,
            tsc_at_start: 300,
        }),
        b"\x04\0\0\0\x00\x0d\xac\x02",
    );
}

#[test]
fn attach() {
    for (stream, number) in [
        (Stream::Stdin, 0),
        (Stream::Stdout, 1),
        (Stream::Stderr, 2),
        (Stream::Terminal, 3),
    ] {
        let attach = Attach {
            process: ProcessId(5),
            stream,
        };
        golden(&Opening::Attach(attach), &[3, 0, 0, 0, 1, 5, number]);
    }
}

fn process() -> Process {
    Process {
        id: ProcessId(1),
        argv: vec!["echo".into(), b"\xff".as_slice().into()],
        env: vec!["A=b".into()],
        cwd: "/tmp".into(),
        user: "nobody:12".into(),
        groups: vec!["7".into()],
        stdin: true,
        terminal: None,
        privileges: Privileges {
            capabilities: 0x81,
            no_new: true,
        },
        filters: vec!["\x06\0\0\0\0\0\x7f".into()],
        limits: vec![Limit {
            resource: 7,
            soft: 1,
            hard: 0x80,
        }],
    }
}

/// What [`process`] is encoded as.
const PROCESS: &[u8] =
    b"\x01\x02\x04echo\x01\xff\x01\x03A=b\x04/tmp\x09nobody:12\x01\x017\x01\x00\x81\x01\x01\x01\x07\x01\x80\x01\x01\x07\x06\0\0\0\0\0\x7f";

fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    [
        &u32::try_from(payload.len()).unwrap().to_le_bytes(),
        payload.as_slice(),
    ]
    .concat()
}

#[test]
fn run() {
    let run = FromHost::Run {
        container: Container {
            hostname: "box".into(),
            hosts: Some("127.0.0.1 localhost\n".into()),
            resolv_conf: None,
            sysctls: vec![Sysctl {
                name: "a.b".into(),
                value: "1".into(),
            }],
            shm_size: Some(0x80),
            tmpfs: vec![Tmpfs {
                path: "/t".into(),
                options: "size=1m".into(),
                flags: MountFlags {
                    read_only: false,
                    no_exec: true,
                    no_dev: false,
                    no_suid: true,
                },
            }],
            confined: true,
            read_only: false,
            pids: Some(0x80),
            network: Some(Network {
                mtu: 0x80,
                addresses: vec![Address {
                    address: [1, 2, 3, 4][..].into(),
                    prefix: 24,
                }],
                mac: [2, 0, 0, 0, 0, 1][..].into(),
                routes: vec![Route {
                    destination: [0; 4][..].into(),
                    prefix: 0,
                    gateway: [1, 2, 3, 5][..].into(),
                }],
            }),
            volumes: vec![Volume {
                path: "/v".into(),
                number: 0x80,
                read_only: true,
                fill: false,
            }],
        },
        process: process(),
    };
    let container =
        b"\x03box\x01\x14127.0.0.1 localhost\n\x00\x01\x03a.b\x011\x01\x80\x01\x01\x02/t\x07size=1m\x00\x01\x00\x01\x01\x00\x01\x80\x01\x01\x80\x01\x01\x04\x01\x02\x03\x04\x18\x06\x02\x00\x00\x00\x00\x01\x01\x04\x00\x00\x00\x00\x00\x04\x01\x02\x03\x05\x01\x02/v\x80\x01\x01\x00";
    golden(&run, &framed(&[b"\x00", container, PROCESS]));
}

#[test]
fn exec() {
    golden(
        &FromHost::Exec { process: process() },
        &framed(&[b"\x02", PROCESS]),
    );
    let mut with_terminal = process();
    with_terminal.terminal = Some(WindowSize {
        rows: 24,
        columns: 0x80,
    });
    let mut encoded = PROCESS.to_vec();
    let at = encoded.len() - 18;
    encoded.splice(at..=at, [1, 24, 0x80, 1]);
    golden(
        &FromHost::Exec {
            process: with_terminal,
        },
        &framed(&[b"\x02", &encoded]),
    );
}

#[test]
fn resize() {
    let size = WindowSize {
        rows: 50,
        columns: 200,
    };
    golden(
        &FromHost::Resize {
            process: ProcessId(1),
            size,
        },
        b"\x05\0\0\0\x03\x01\x32\xc8\x01",
    );
}

#[test]
fn dockers_privileges() {
    let named = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    let bits = named.iter().fold(0_u64, |bits, number| bits | 1 << number);
    assert_eq!(
        Privileges::DOCKER,
        Privileges {
            capabilities: bits,
            no_new: false
        }
    );
}

#[test]
fn signal() {
    golden(
        &FromHost::Signal {
            process: ProcessId(1),
            signal: 15,
        },
        b"\x03\0\0\0\x01\x01\x0f",
    );
}

#[test]
fn started() {
    golden(
        &FromGuest::Started {
            process: ProcessId(1),
            tsc: 128,
        },
        b"\x04\0\0\0\x00\x01\x80\x01",
    );
}

#[test]
fn failed() {
    for (failure, number) in [
        (Failure::NotFound, 0),
        (Failure::NotExecutable, 1),
        (Failure::Setup, 2),
    ] {
        let failed = FromGuest::Failed {
            process: ProcessId(1),
            failure,
            message: "No".into(),
        };
        golden(&failed, &[6, 0, 0, 0, 1, 1, number, 2, b'N', b'o']);
    }
}

#[test]
fn exited() {
    let exited = |status| FromGuest::Exited {
        process: ProcessId(1),
        status,
        tsc: 2,
        outputs: 1,
    };
    golden(
        &exited(Status::Code(7)),
        b"\x06\0\0\0\x02\x01\x00\x07\x02\x01",
    );
    golden(
        &exited(Status::Signal(9)),
        b"\x06\0\0\0\x02\x01\x01\x09\x02\x01",
    );
}

#[test]
fn a_copys_first_words() {
    golden(&FromHost::Rest { sync: true }, b"\x02\0\0\0\x04\x01");
    golden(&FromGuest::Resting, b"\x01\0\0\0\x03");
    let ahead = FromHost::ReadAhead {
        program: b"sh".as_slice().into(),
        path: b"/bin".as_slice().into(),
    };
    golden(&ahead, b"\x09\0\0\0\x09\x02sh\x04/bin");
    let renewal = Renewal {
        entropy: b"\xaa\xbb".as_slice().into(),
        time: 300,
        mac: Some(b"\x02".as_slice().into()),
    };
    golden(
        &FromHost::Renew(renewal),
        b"\x09\0\0\0\x05\x02\xaa\xbb\xac\x02\x01\x01\x02",
    );
}

#[test]
fn work() {
    let asked = |work| FromHost::Work {
        process: ProcessId(2),
        work,
    };
    let pack = Work::Pack {
        path: "/a".into(),
        follow: true,
        whole: false,
    };
    golden(&asked(pack), b"\x08\0\0\0\x06\x02\x00\x02/a\x01\x00");
    let unpack = Work::Unpack {
        path: "/".into(),
        name: "b".into(),
    };
    golden(&asked(unpack), b"\x07\0\0\0\x06\x02\x01\x01/\x01b");
    golden(&asked(Work::Changes), b"\x03\0\0\0\x06\x02\x02");
    golden(&asked(Work::Processes), b"\x03\0\0\0\x06\x02\x03");
}

#[test]
fn items() {
    let entry = Entry {
        path: "p".into(),
        kind: EntryKind::File { size: 0x80 },
        mode: 0o644,
        uid: 1,
        gid: 2,
        seconds: -1,
        nanoseconds: 3,
        attributes: vec![("user.a".into(), Bytes(vec![0]))],
    };
    golden(
        &Item::Entry(entry),
        b"\x16\0\0\0\x00\x01p\x00\x80\x01\xa4\x03\x01\x02\x01\x03\x01\x06user.a\x01\x00",
    );
    golden(&Item::End, b"\x01\0\0\0\x01");
    golden(
        &Item::Change(Change::Removed, "/x".into()),
        b"\x05\0\0\0\x02\x02\x02/x",
    );
    let process = Item::Process {
        stat: "1".into(),
        uid: 0x80,
        command: "c".into(),
    };
    golden(&process, b"\x07\0\0\0\x03\x011\x80\x01\x01c");
    golden(&Item::Uptime(0x80), b"\x03\0\0\0\x04\x80\x01");
}

#[test]
fn going_on() {
    golden(&FromHost::GoOn, b"\x01\0\0\0\x07");
    let bounds = Bounds {
        memory: Some(300),
        cpus: None,
        pids: Some(7),
    };
    golden(
        &FromHost::Bound(bounds),
        b"\x07\0\0\0\x08\x01\xac\x02\0\x01\x07",
    );
}

#[test]
fn starved() {
    let process = ProcessId(1);
    golden(&FromGuest::Starved { process }, b"\x02\0\0\0\x04\x01");
}

//! Golden bytes: one per message, so that a change of the encoding is seen.

use crate::{
    Attach, Container, Failure, FromGuest, FromHost, Hello, Message, Opening, Process, ProcessId,
    Status, Stream, encode, read,
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
            version: 1,
            tsc_at_start: 300,
        }),
        b"\x04\0\0\0\x00\x01\xac\x02",
    );
}

#[test]
fn attach() {
    for (stream, number) in [(Stream::Stdin, 0), (Stream::Stdout, 1), (Stream::Stderr, 2)] {
        let attach = Attach {
            process: ProcessId(5),
            stream,
        };
        golden(&Opening::Attach(attach), &[3, 0, 0, 0, 1, 5, number]);
    }
}

#[test]
fn run() {
    let run = FromHost::Run {
        container: Container {
            hostname: "box".into(),
            hosts: Some("127.0.0.1 localhost\n".into()),
            resolv_conf: None,
        },
        process: Process {
            id: ProcessId(1),
            argv: vec!["echo".into(), b"\xff".as_slice().into()],
            env: vec!["A=b".into()],
            cwd: "/tmp".into(),
            user: "nobody:12".into(),
            stdin: true,
        },
    };
    golden(
        &run,
        b"\x3a\0\0\0\x00\x03box\x01\x14127.0.0.1 localhost\n\x00\x01\x02\x04echo\x01\xff\x01\x03A=b\x04/tmp\x09nobody:12\x01",
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
    };
    golden(&exited(Status::Code(7)), b"\x05\0\0\0\x02\x01\x00\x07\x02");
    golden(
        &exited(Status::Signal(9)),
        b"\x05\0\0\0\x02\x01\x01\x09\x02",
    );
}

//! Framing: bounds, partial input, and hostile bytes.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;
use crate::{
    Address, Attach, Bytes, Container, Failure, Hello, Limit, MountFlags, Network, Privileges,
    Process, ProcessId, Route, Status, Stream, Sysctl, Tmpfs, Volume, WindowSize, fuzz,
};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes)
}

fn opening() -> impl Strategy<Value = Opening> {
    let stream = prop::sample::select(vec![
        Stream::Stdin,
        Stream::Stdout,
        Stream::Stderr,
        Stream::Terminal,
    ]);
    prop_oneof![
        any::<u64>().prop_map(|tsc_at_start| Opening::Hello(Hello {
            version: VERSION,
            tsc_at_start
        })),
        (any::<u32>(), stream).prop_map(|(id, stream)| Opening::Attach(Attach {
            process: ProcessId(id),
            stream
        })),
    ]
}

fn list() -> impl Strategy<Value = Vec<Bytes>> {
    prop::collection::vec(bytes(), 0..5)
}

fn size() -> impl Strategy<Value = WindowSize> {
    any::<(u16, u16)>().prop_map(|(rows, columns)| WindowSize { rows, columns })
}

fn container() -> impl Strategy<Value = Container> {
    let files = (
        bytes(),
        prop::option::of(bytes()),
        prop::option::of(bytes()),
    );
    let sysctl = (bytes(), bytes()).prop_map(|(name, value)| Sysctl { name, value });
    let tmpfs = (bytes(), bytes(), any::<(bool, bool, bool, bool)>()).prop_map(
        |(path, options, (read_only, no_exec, no_dev, no_suid))| Tmpfs {
            path,
            options,
            flags: MountFlags {
                read_only,
                no_exec,
                no_dev,
                no_suid,
            },
        },
    );
    let volume =
        (bytes(), any::<(u16, bool, bool)>()).prop_map(|(path, (number, read_only, fill))| {
            Volume {
                path,
                number,
                read_only,
                fill,
            }
        });
    let lists = (
        prop::collection::vec(sysctl, 0..3),
        prop::collection::vec(tmpfs, 0..3),
        prop::collection::vec(volume, 0..3),
    );
    let address = (bytes(), any::<u8>()).prop_map(|(address, prefix)| Address { address, prefix });
    let route = (bytes(), any::<u8>(), bytes()).prop_map(|(destination, prefix, gateway)| Route {
        destination,
        prefix,
        gateway,
    });
    let network = (
        any::<u32>(),
        prop::collection::vec(address, 0..3),
        bytes(),
        prop::collection::vec(route, 0..3),
    )
        .prop_map(|(mtu, addresses, mac, routes)| Network {
            mtu,
            addresses,
            mac,
            routes,
        });
    let rest = any::<(Option<u64>, bool, bool, Option<u64>)>();
    (files, lists, rest, prop::option::of(network)).prop_map(
        |(
            (hostname, hosts, resolv_conf),
            (sysctls, tmpfs, volumes),
            (shm_size, confined, read_only, pids),
            network,
        )| {
            Container {
                hostname,
                hosts,
                resolv_conf,
                sysctls,
                shm_size,
                tmpfs,
                confined,
                read_only,
                pids,
                network,
                volumes,
            }
        },
    )
}

fn process() -> impl Strategy<Value = Process> {
    let limit = any::<(u8, u64, u64)>().prop_map(|(resource, soft, hard)| Limit {
        resource,
        soft,
        hard,
    });
    let who = (bytes(), list(), any::<(u64, bool)>());
    let what = (any::<u32>(), list(), list(), bytes());
    let how = (
        any::<bool>(),
        prop::option::of(size()),
        prop::collection::vec(limit, 0..3),
        list(),
    );
    (what, who, how).prop_map(
        |(
            (id, argv, env, cwd),
            (user, groups, (capabilities, no_new)),
            (stdin, terminal, limits, filters),
        )| Process {
            id: ProcessId(id),
            argv,
            env,
            cwd,
            user,
            groups,
            stdin,
            terminal,
            privileges: Privileges {
                capabilities,
                no_new,
            },
            limits,
            filters,
        },
    )
}

fn from_host() -> impl Strategy<Value = FromHost> {
    let id = || any::<u32>().prop_map(ProcessId);
    prop_oneof![
        (container(), process())
            .prop_map(|(container, process)| FromHost::Run { container, process }),
        (id(), any::<u8>()).prop_map(|(process, signal)| FromHost::Signal { process, signal }),
        process().prop_map(|process| FromHost::Exec { process }),
        (id(), size()).prop_map(|(process, size)| FromHost::Resize { process, size }),
    ]
}

fn from_guest() -> impl Strategy<Value = FromGuest> {
    let failure = prop::sample::select(vec![
        Failure::NotFound,
        Failure::NotExecutable,
        Failure::Setup,
    ]);
    let status = prop_oneof![
        any::<u8>().prop_map(Status::Code),
        any::<u8>().prop_map(Status::Signal)
    ];
    let process = || any::<u32>().prop_map(ProcessId);
    prop_oneof![
        (process(), any::<u64>()).prop_map(|(process, tsc)| FromGuest::Started { process, tsc }),
        (process(), failure, ".{0,40}").prop_map(|(process, failure, message)| FromGuest::Failed {
            process,
            failure,
            message
        }),
        (process(), status, any::<(u64, u8)>()).prop_map(|(process, status, (tsc, outputs))| {
            FromGuest::Exited {
                process,
                status,
                tsc,
                outputs,
            }
        }),
    ]
}

/// All messages of a stream, however it is cut.
fn incremental<M: Message>(stream: &[u8], chunk: usize) -> Vec<M> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for bytes in stream.chunks(chunk) {
        decoder.push(bytes);
        while let Some(message) = decoder.take().unwrap() {
            found.push(message);
        }
    }
    assert!(decoder.into_rest().is_empty());
    found
}

proptest! {
    #[test]
    fn openings_survive(message in opening()) {
        let frame = encode(&message).unwrap();
        prop_assert_eq!(read::<Opening>(&mut frame.as_slice()).unwrap(), Some(message));
    }

    #[test]
    fn host_messages_survive_any_cut(messages in prop::collection::vec(from_host(), 0..4), chunk in 1_usize..50) {
        let mut stream = Vec::new();
        for message in &messages {
            write(&mut stream, message).unwrap();
        }
        prop_assert_eq!(incremental::<FromHost>(&stream, chunk), messages);
    }

    #[test]
    fn guest_messages_survive_any_cut(messages in prop::collection::vec(from_guest(), 0..4), chunk in 1_usize..50) {
        let mut stream = Vec::new();
        for message in &messages {
            write(&mut stream, message).unwrap();
        }
        prop_assert_eq!(incremental::<FromGuest>(&stream, chunk), messages);
    }

    #[test]
    fn hostile_bytes_do_not_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::decode(&data);
    }

    #[test]
    fn a_changed_byte_does_not_panic(message in from_host(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = encode(&message).unwrap();
        let at = at.index(frame.len());
        frame[at] = byte;
        fuzz::decode(&frame);
    }
}

#[test]
fn a_stream_may_end_between_frames_only() {
    let frame = encode(&FromHost::Signal {
        process: ProcessId(1),
        signal: 2,
    })
    .unwrap();
    assert!(matches!(read::<FromHost>(&mut io::empty()), Ok(None)));
    for cut in 1..frame.len() {
        let error = read::<FromHost>(&mut &frame[..cut]).unwrap_err();
        assert!(
            matches!(&error, FrameError::Connection(e) if e.kind() == io::ErrorKind::UnexpectedEof),
            "cut at {cut}: {error:?}"
        );
    }
}

#[test]
fn reading_takes_no_byte_after_the_frame() {
    let mut stream = encode(&Opening::Attach(Attach {
        process: ProcessId(1),
        stream: Stream::Stdout,
    }))
    .unwrap();
    stream.extend(b"raw");
    let mut source = stream.as_slice();
    read::<Opening>(&mut source).unwrap();
    assert_eq!(source, b"raw");

    let mut decoder = Decoder::new();
    decoder.push(&stream);
    decoder.take::<Opening>().unwrap();
    assert_eq!(decoder.into_rest(), b"raw");
}

#[test]
fn a_claimed_length_over_the_limit_is_refused_at_once() {
    let claim = |size: u32| size.to_le_bytes();
    // Endless input: a reader that believed the length would not come back.
    let header = claim(u32::MAX);
    let mut source = header.chain(io::repeat(0));
    assert!(matches!(
        read::<FromHost>(&mut source),
        Err(FrameError::TooLarge {
            size: 0xffff_ffff,
            limit: 0x10_0000
        })
    ));
    let mut decoder = Decoder::new();
    decoder.push(&claim(65));
    assert!(matches!(
        decoder.take::<Opening>(),
        Err(FrameError::TooLarge {
            size: 65,
            limit: 64
        })
    ));
    let mut decoder = Decoder::new();
    decoder.push(&claim(64));
    assert!(matches!(decoder.take::<Opening>(), Ok(None)));
}

#[test]
fn a_message_over_the_limit_is_not_sent() {
    let message = FromGuest::Failed {
        process: ProcessId(1),
        failure: Failure::Setup,
        message: "x".repeat(FromGuest::LIMIT),
    };
    let mut sink = Vec::new();
    assert!(matches!(
        write(&mut sink, &message),
        Err(FrameError::TooLarge { .. })
    ));
    assert!(sink.is_empty());
}

#[test]
fn bytes_after_the_message_are_refused() {
    assert!(matches!(
        read::<FromHost>(&mut [4, 0, 0, 0, 1, 1, 15, 0].as_slice()),
        Err(FrameError::Malformed { size: 4 })
    ));
    assert!(matches!(
        read::<FromHost>(&mut [0; 4].as_slice()),
        Err(FrameError::Malformed { size: 0 })
    ));
}

#[test]
fn another_version_is_named_whatever_its_hello_holds() {
    let error = read::<Opening>(&mut [5, 0, 0, 0, 0, 99, 1, 2, 3].as_slice()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Guest init speaks protocol version 99, this hull speaks version 13"
    );
}

#[test]
fn a_huge_claimed_list_within_a_small_frame_is_refused() {
    // Run, empty hostname, no files, no parameters, …, id 1, then an argv of 2^32 - 1 entries.
    let payload = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f,
    ];
    assert!(matches!(
        FromHost::decode(&payload),
        Err(FrameError::Malformed { size: 16 })
    ));
}

#[test]
fn the_fuzz_corpus_does_not_panic() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fuzz/corpus/protocol"
    );
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzz::decode(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 8, "only {replayed} inputs in {corpus}");
}

//! What comes out of a stream is what went in, or nothing is left.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::config::{Memory, VmConfig};
use crate::snapshot::named::tests::task;
use crate::snapshot::{Parts, encode};

/// A store of snapshots in a directory of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::of(self.0.path())
    }

    fn is_empty(&self) -> bool {
        let count = |path: &str| {
            let entries = std::fs::read_dir(self.0.path().join(path));
            entries.map_or(0, Iterator::count)
        };
        // The directory of drafts.
        count("snapshots") <= 1 && count("snapshots/tmp") == 0
    }
}

fn config() -> Config {
    Config {
        id: "ab".repeat(32),
        name: "source".to_owned(),
        image_id: format!("sha256:{}", "cd".repeat(32)),
        machine: VmConfig {
            memory: Memory::SMALLEST,
            network: Some(network::Settings {
                host: true,
                resolvers: vec!["127.0.0.1".parse().unwrap()],
                ..network::Settings::default()
            }),
            ..VmConfig::default()
        },
        // Its last group is left out: the file is shorter.
        storage: (129 << 20) + 1,
        ..Config::default()
    }
}

/// The stream of a snapshot called `one`.
fn stream_of(config: &Config) -> Vec<u8> {
    let home = Home::new();
    let draft = home
        .snapshots()
        .begin("one", config, &task(), "root".to_owned())
        .unwrap();
    let machine = encode(&Parts {
        about: &[],
        pages: &[],
        state: b"state",
    });
    draft.replace_machine(&machine).unwrap();
    draft.memory.set_len(config.machine.memory.bytes()).unwrap();
    draft.memory.write_all_at(&[7; 5000], 3 << 20).unwrap();
    draft.memory.write_all_at(&[8; 10], 20 << 20).unwrap();
    if config.storage > 0 {
        let disk = draft::create(draft.directory(), DISK).unwrap();
        disk.set_len(storage::length(config.storage)).unwrap();
        disk.write_all_at(b"disk", 0).unwrap();
    }
    named::finish("one", draft).unwrap();
    let mut bytes = Vec::new();
    let snapshot = home.snapshots().get("one").unwrap();
    // A container that is refused is not written either: what a hostile stream has is made without asking.
    for (what, file) in snapshot.files().unwrap() {
        let path = format!("one/{what}").into_bytes();
        add(path, &file, 0, &mut bytes).unwrap();
    }
    tar::end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_written_is_read_under_any_name() {
    let home = Home::new();
    let stream = stream_of(&config());
    assert!(stream.len() < 128 << 10, "{}", stream.len());
    let one = read(&stream[..], &home.snapshots(), None).unwrap();
    let other = read(&stream[..], &home.snapshots(), Some("other")).unwrap();
    assert_eq!((&one.name[..], &other.name[..]), ("one", "other"));
    for found in [one, other] {
        found.verify().unwrap();
        let Some((_, memory)) = found.files().unwrap().into_iter().nth(2) else {
            panic!("no memory")
        };
        assert!(memory.metadata().unwrap().blocks() * 512 < 64 << 10);
        let mut bytes = [0; 2];
        memory.read_exact_at(&mut bytes, (3 << 20) + 4999).unwrap();
        assert_eq!(bytes, [7, 0]);
        let mut again = Vec::new();
        write(&found, &mut again).unwrap();
        let elsewhere = Home::new();
        let third = read(&again[..], &elsewhere.snapshots(), None).unwrap();
        third.verify().unwrap();
    }
    let taken = read(&stream[..], &home.snapshots(), None).unwrap_err();
    assert!(matches!(
        taken,
        ArchiveError::Snapshot(SnapshotError::Taken(_))
    ));
}

#[test]
fn what_was_the_hosts_stays_there() {
    let home = Home::new();
    let stream = stream_of(&Config {
        pidfile: Some("/tmp/pid".into()),
        ..config()
    });
    let found = read(&stream[..], &home.snapshots(), None).unwrap();
    let config = &home.snapshots().get("one").unwrap().about.config;
    let network = config.machine.network.as_ref().unwrap();
    assert!(!network.host && network.resolvers.is_empty());
    assert_eq!(config.pidfile, None);
    found.verify().unwrap();
}

#[test]
fn a_stream_that_was_cut_off_leaves_nothing() {
    let home = Home::new();
    let stream = stream_of(&config());
    // Without the two blocks that end it, all that there is has been told.
    for length in (0..stream.len() - 1024).step_by(211) {
        let found = read(&stream[..length], &home.snapshots(), None);
        assert!(found.is_err(), "{length}");
        assert!(home.is_empty(), "{length}");
    }
}

#[test]
fn a_stream_that_was_damaged_leaves_nothing_or_all() {
    let stream = stream_of(&config());
    let mut refused = 0;
    for place in (0..stream.len()).step_by(61) {
        let home = Home::new();
        let mut bad = stream.clone();
        bad[place] ^= 0x10;
        match read(&bad[..], &home.snapshots(), Some("one")) {
            // Nobody reads what fills a block up.
            Ok(found) => found.verify().unwrap(),
            Err(_) => {
                refused += 1;
                assert!(home.is_empty(), "{place}");
            }
        }
    }
    assert!(refused > stream.len() / 61 / 3, "{refused}");
}

#[test]
fn nothing_of_another_host_or_of_no_sense_is_taken() {
    let refused = |change: &dyn Fn(&mut Config), words: &str| {
        let mut changed = config();
        change(&mut changed);
        let home = Home::new();
        let error = read(&stream_of(&changed)[..], &home.snapshots(), None).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(home.is_empty());
    };
    refused(
        &|config| config.kernel = Some("/etc/shadow".into()),
        "a kernel",
    );
    refused(&|config| config.tty = true, "a terminal");
    refused(&|config| config.machine.kernel_log = true, "--kernel-log");
    refused(&|config| config.machine.root = Root::Direct, "no image");
    refused(&|config| config.image_id = "busybox".to_owned(), "no image");
    refused(&|config| config.id = "../../x".to_owned(), "impossible id");
    refused(&|config| config.storage = 4096, "impossible disk");
    let volume = || crate::container::Volume {
        name: None,
        path: "/etc".into(),
        target: "/etc".to_owned(),
        read_only: false,
    };
    refused(&|config| config.rootfs = Some(volume()), "a directory of");
    refused(&|config| config.volumes.push(volume()), "directories");
}

#[test]
fn names_lead_nowhere() {
    let stream = stream_of(&config());
    let home = Home::new();
    for name in ["../../x", "tmp", "a/b", "", ".", "a"] {
        let error = read(&stream[..], &home.snapshots(), Some(name)).unwrap_err();
        let is_name = matches!(error, ArchiveError::Snapshot(SnapshotError::Name(_)));
        assert!(is_name, "{name}: {error}");
    }
    assert!(home.is_empty());
}

/// A stream of these entries, each with so many bytes of its own.
fn of(entries: &[(&str, Kind, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, kind, length) in entries {
        bytes.extend(archive::header(&Entry {
            path: path.as_bytes().to_vec(),
            kind: kind.clone(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        }));
        bytes.resize((bytes.len() + length).next_multiple_of(BLOCK), 0);
    }
    bytes
}

#[test]
fn what_is_no_snapshot_is_refused_before_anything_is_made() {
    let home = Home::new();
    let file = |size| Kind::File { size, map: None };
    let refused = |stream: &[u8]| {
        let error = read(stream, &home.snapshots(), None).unwrap_err();
        assert!(home.is_empty());
        error
    };
    for entries in [
        &[("one/container", file(LONGEST + 1), 0)][..],
        &[("one/container", Kind::Symlink(b"/etc/passwd".into()), 0)],
        &[("one/machine", file(4), 4)],
        &[("container", file(4), 4)],
        &[("one/../container", file(4), 4)],
        &[],
    ] {
        let error = refused(&of(entries));
        assert!(matches!(error, ArchiveError::Foreign(CONTAINER)), "{error}");
    }
    let error = refused(&of(&[("one/container", file(4), 4)]));
    assert!(matches!(
        error,
        ArchiveError::Snapshot(SnapshotError::Format { .. })
    ));
    assert!(matches!(refused(b"hello"), ArchiveError::Tar(_)));
    assert!(matches!(
        refused(&[0x1f, 0x8b, 8]),
        ArchiveError::Packed("gzip")
    ));
    let zstd = refused(&[0x28, 0xb5, 0x2f, 0xfd]);
    assert!(matches!(zstd, ArchiveError::Packed("zstd")));
}

#[test]
fn files_of_another_length_or_more_of_them_are_refused() {
    let stream = stream_of(&config());
    let other = stream_of(&Config {
        machine: VmConfig {
            memory: Memory::mib(33).unwrap(),
            ..config().machine
        },
        ..config()
    });
    // The container of one, and the machine of the other.
    let place = |stream: &[u8]| {
        let found = stream
            .windows(12)
            .position(|window| &window[..11] == b"one/machine");
        found.unwrap()
    };
    let mixed = [&stream[..place(&stream)], &other[place(&other)..]].concat();
    let home = Home::new();
    let error = read(&mixed[..], &home.snapshots(), None).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Length { what: MEMORY, .. }),
        "{error}"
    );
    let file = Kind::File { size: 0, map: None };
    let more = of(&[("one/more", file, 0)]);
    let longer = [&stream[..stream.len() - 1024], &more].concat();
    let error = read(&longer[..], &home.snapshots(), None).unwrap_err();
    assert!(matches!(error, ArchiveError::Foreign("end")), "{error}");
    assert!(home.is_empty());
}

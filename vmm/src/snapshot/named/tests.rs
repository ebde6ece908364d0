//! What is found, and what is said of what cannot be used.

use protocol::{Container, Privileges, Process, ProcessId};

use super::*;

pub(in crate::snapshot) fn task() -> Task {
    Task {
        container: Container::default(),
        process: Process {
            id: ProcessId(1),
            argv: vec!["sleep".into()],
            env: Vec::new(),
            cwd: "".into(),
            user: "".into(),
            groups: Vec::new(),
            stdin: false,
            terminal: None,
            privileges: Privileges::DOCKER,
            limits: Vec::new(),
            filters: Vec::new(),
        },
    }
}

fn made(snapshots: &Snapshots, name: &str) {
    let config = Config {
        name: "source".to_owned(),
        ..Config::default()
    };
    let draft = snapshots.begin(name, &config, &task(), "1:2".to_owned());
    let mut draft = draft.unwrap();
    let bytes = super::super::encode(&Parts {
        about: &[],
        pages: &[],
        state: b"state",
    });
    io::Write::write_all(&mut draft.machine, &bytes).unwrap();
    draft.memory.set_len(config.machine.memory.bytes()).unwrap();
    draft.finish().unwrap();
}

#[test]
fn what_was_made_is_found_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::of(root.path());
    assert!(snapshots.list().is_empty());
    made(&snapshots, "one");
    let draft = snapshots.begin("two", &Config::default(), &task(), String::new());
    let names = |snapshots: &Snapshots| -> Vec<String> {
        let found = snapshots.list().into_iter();
        found.map(|found| found.unwrap().name).collect()
    };
    assert_eq!(names(&snapshots), ["one"]);
    drop(draft.unwrap());
    let found = snapshots.get("one").unwrap();
    assert_eq!(found.about.config.name, "source");
    assert_eq!(found.task.process.argv, task().process.argv);
    found.rest().unwrap();
    for name in ["two", "tmp", "..", "a/b", ""] {
        let found = snapshots.get(name);
        assert!(matches!(found, Err(SnapshotError::Unknown(_))), "{name}");
        let removed = snapshots.remove(name);
        assert!(matches!(removed, Err(SnapshotError::Unknown(_))), "{name}");
    }
    let begun = |name: &str| snapshots.begin(name, &Config::default(), &task(), String::new());
    assert!(matches!(begun("one"), Err(SnapshotError::Taken(_))));
    assert!(matches!(begun("tmp"), Err(SnapshotError::Name(_))));
    assert!(matches!(begun("../x"), Err(SnapshotError::Name(_))));
    snapshots.remove("one").unwrap();
    assert!(names(&snapshots).is_empty());
}

#[test]
fn what_is_not_whole_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::of(root.path());
    made(&snapshots, "one");
    let path = root.path().join("snapshots/one");
    for file in [CONTAINER, MACHINE] {
        let good = std::fs::read(path.join(file)).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            std::fs::write(path.join(file), &bad).unwrap();
            let used = snapshots.get("one").and_then(|found| found.rest());
            assert!(used.is_err(), "byte {index} of {file}");
        }
        for length in 0..good.len() {
            std::fs::write(path.join(file), &good[..length]).unwrap();
            let used = snapshots.get("one").and_then(|found| found.rest());
            assert!(used.is_err(), "{length} bytes of {file}");
        }
        std::fs::write(path.join(file), &good).unwrap();
    }
    std::fs::write(path.join(MEMORY), b"short").unwrap();
    let used = snapshots.get("one").and_then(|found| found.rest());
    assert!(matches!(
        used,
        Err(SnapshotError::Unfit { what: "memory", .. })
    ));
}

//! Containers as files: found, named, supervised, and never taken for alive when they are dead.

use protocol::Process;

use super::*;

pub(crate) fn task() -> Task {
    Task {
        container: protocol::Container::default(),
        process: Process {
            id: protocol::ProcessId(1),
            argv: vec!["true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            user: "".into(),
            groups: Vec::new(),
            stdin: false,
            terminal: None,
            privileges: protocol::Privileges::FULL,
            limits: Vec::new(),
            filters: Vec::new(),
        },
    }
}

pub(crate) fn config(name: &str) -> Config {
    Config {
        id: new_id().unwrap(),
        name: name.to_owned(),
        created: crate::human::nanoseconds(),
        ..Config::default()
    }
}

pub(crate) fn home() -> (tempfile::TempDir, Containers) {
    let place = tempfile::tempdir().unwrap();
    let containers = Containers::open(place.path()).unwrap();
    (place, containers)
}

#[test]
fn a_container_is_found_by_id_name_and_beginning() {
    let (_place, containers) = home();
    let (made, supervision) = containers.create(config("first"), &task()).unwrap();
    let (other, _other) = containers.create(config(""), &task()).unwrap();
    assert!(!other.config.name.is_empty(), "a name is found for it");
    let id = made.config.id.clone();
    for text in [id.as_str(), "first", short(&id)] {
        assert_eq!(containers.find(text).unwrap().config.id, id, "{text}");
    }
    assert_eq!(
        containers.find("first").unwrap().task().unwrap().process,
        task().process
    );
    for text in ["", "no", "firs"] {
        assert!(
            matches!(containers.find(text), Err(ContainerError::Unknown(_))),
            "{text}"
        );
    }
    made.remove(&supervision).unwrap();
    assert!(!made.is_there());
    assert!(matches!(
        containers.find("first"),
        Err(ContainerError::Unknown(_))
    ));
}

#[test]
fn a_name_is_given_once() {
    let (_place, containers) = home();
    let (_first, _supervision) = containers.create(config("name"), &task()).unwrap();
    let again = containers.create(config("name"), &task());
    assert!(matches!(again, Err(ContainerError::NameTaken { .. })));
    let (mut other, _supervision) = containers.create(config("other"), &task()).unwrap();
    let renamed = containers.rename(&mut other, "name");
    assert!(matches!(renamed, Err(ContainerError::NameTaken { .. })));
    containers.rename(&mut other, "third").unwrap();
    assert_eq!(containers.find("third").unwrap().config.id, other.config.id);
    for name in ["", "x", "-x", "a/b", "a b", "../etc"] {
        assert!(containers.rename(&mut other, name).is_err(), "{name:?}");
    }
    assert_eq!(containers.list().unwrap().len(), 2);
}

#[test]
fn a_state_without_a_supervisor_is_an_end() {
    let (_place, containers) = home();
    let (made, supervision) = containers.create(config("name"), &task()).unwrap();
    let running = State {
        status: Status::Running,
        started: 5,
        vmm: 7,
        ..State::default()
    };
    made.set_state(&running).unwrap();
    let seen = containers.find("name").unwrap();
    assert!(seen.is_supervised());
    assert_eq!(seen.state(), running);
    assert!(matches!(seen.supervise(), Err(ContainerError::Running(_))));
    drop(supervision);
    assert!(!seen.is_supervised());
    let state = seen.state();
    assert_eq!((state.status, state.exit_code), (Status::Exited, KILLED));
    assert_eq!(state.started, 5, "what is known is kept");
    assert!(!state.error.is_empty());
}

/// Whoever looks while a supervisor writes down the end and goes sees that end, and none that it makes up.
#[test]
fn an_end_that_is_written_while_somebody_looks_is_that_end() {
    let (_place, containers) = home();
    let (made, supervision) = containers.create(config("name"), &task()).unwrap();
    drop(supervision);
    let state = |status, exit_code| State {
        status,
        exit_code,
        ..State::default()
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                seen.push(made.state().exit_code);
            }
            seen
        });
        for _ in 0..2_000 {
            let supervision = made.supervise().unwrap();
            made.set_state(&state(Status::Running, 0)).unwrap();
            made.set_state(&state(Status::Exited, 5)).unwrap();
            drop(supervision);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = looker.join().unwrap();
        assert!(seen.contains(&5));
        assert!(!seen.contains(&KILLED), "of {}", seen.len());
    });
}

#[test]
fn damaged_files_are_told_and_can_be_removed() {
    let (place, containers) = home();
    let (made, supervision) = containers.create(config("name"), &task()).unwrap();
    let directory = place.path().join("containers").join(&made.config.id);
    std::fs::write(directory.join(STATE), "{\"status\":\"runn").unwrap();
    let state = made.state();
    assert_eq!(state.status, Status::Exited);
    assert!(state.error.contains(STATE), "{}", state.error);
    std::fs::write(directory.join(TASK), [0xff; 20]).unwrap();
    assert!(matches!(made.task(), Err(ContainerError::Damaged { .. })));
    made.remove(&supervision).unwrap();
    assert!(!directory.exists());
    // Half a container is none.
    std::fs::create_dir(place.path().join("containers/half")).unwrap();
    assert!(containers.list().unwrap().is_empty());
}

#[test]
fn what_was_to_be_removed_at_its_end_is_removed_by_who_looks() {
    let (place, containers) = home();
    let config = Config {
        remove: true,
        ..config("brief")
    };
    let (made, supervision) = containers.create(config, &task()).unwrap();
    let running = State {
        status: Status::Running,
        ..State::default()
    };
    made.set_state(&running).unwrap();
    assert_eq!(containers.list().unwrap().len(), 1, "it runs");
    drop(supervision);
    assert!(containers.list().unwrap().is_empty());
    let left = place.path().join("containers").join(&made.config.id);
    assert!(!left.exists());
}

#[test]
fn what_is_removed_while_it_is_changed_stays_removed() {
    let (place, containers) = home();
    let (mut made, supervision) = containers.create(config("name"), &task()).unwrap();
    let directory = place.path().join("containers").join(&made.config.id);
    drop(supervision);
    // Who removes it has come to its lock.
    for name in [CONFIG, LOCK] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    let renamed = containers.rename(&mut made, "other");
    assert!(matches!(renamed, Err(ContainerError::Unknown(_))));
    assert!(!directory.exists());
    let same = made.config.clone();
    let changed = containers.change(&mut made, same, None);
    assert!(matches!(changed, Err(ContainerError::Unknown(_))));
    // Who changed it died before it saw that.
    let (left, supervision) = containers.create(config("left"), &task()).unwrap();
    let directory = place.path().join("containers").join(&left.config.id);
    drop(supervision);
    std::fs::remove_file(directory.join(LOCK)).unwrap();
    containers.create(config("next"), &task()).unwrap();
    assert!(!directory.exists());
}

#[test]
fn removing_follows_no_link() {
    let (place, containers) = home();
    let (made, supervision) = containers.create(config("name"), &task()).unwrap();
    let outside = place.path().join("outside");
    std::fs::write(&outside, "kept").unwrap();
    let directory = place.path().join("containers").join(&made.config.id);
    std::os::unix::fs::symlink(&outside, directory.join(log::NAME)).unwrap();
    assert!(
        log::Log::open(&made.log_path(), log::Limits::default()).is_err(),
        "a link is no log"
    );
    made.remove(&supervision).unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), b"kept");
}

#[test]
fn restart_policies_are_read_and_obeyed() {
    for (text, code, before, again) in [
        ("no", 1, 0, false),
        ("always", 0, 99, true),
        ("unless-stopped", 3, 0, true),
        ("on-failure", 0, 0, false),
        ("on-failure", 1, 99, true),
        ("on-failure:2", 1, 1, true),
        ("on-failure:2", 1, 2, false),
    ] {
        let policy: Restart = text.parse().unwrap();
        assert_eq!(policy.again(code, before), again, "{text} {code} {before}");
    }
    for text in ["sometimes", "always:3", "on-failure:x", "on-failure:"] {
        assert!(text.parse::<Restart>().is_err(), "{text}");
    }
}

#[test]
fn no_two_containers_have_one_hardware_address() {
    let (_place, containers) = home();
    let with = |mac: [u8; 6]| {
        let mut config = config("");
        config.machine.network = Some(network::Settings {
            mac,
            ..network::Settings::default()
        });
        config
    };
    let ids = [new_id().unwrap(), new_id().unwrap()];
    assert_ne!(mac(&ids[0]), mac(&ids[1]));
    for id in &ids {
        assert_eq!(mac(id)[0] & 3, 2, "local, and one card's");
    }
    assert_eq!(mac("ff0102030405"), [0xfe, 1, 2, 3, 4, 5]);
    let (made, supervision) = containers.create(with(mac(&ids[0])), &task()).unwrap();
    let refused = containers.create(with(mac(&ids[0])), &task());
    assert!(matches!(refused, Err(ContainerError::MacTaken { .. })));
    containers.create(with(mac(&ids[1])), &task()).unwrap();
    containers.create(config("without"), &task()).unwrap();
    containers.create(config("neither"), &task()).unwrap();
    made.remove(&supervision).unwrap();
    containers.create(with(mac(&ids[0])), &task()).unwrap();
}

#[test]
fn what_is_left_of_a_container_goes_when_the_next_one_is_made() {
    let (place, containers) = home();
    let at = |name: &str| place.path().join("containers").join(name);
    for half in ["killed", "busy", "empty"] {
        std::fs::create_dir(at(half)).unwrap();
    }
    for file in ["killed/lock", "killed/log.json", "busy/lock", "busy/task"] {
        std::fs::write(at(file), "").unwrap();
    }
    let busy = File::open(at("busy/lock")).unwrap();
    rustix::fs::flock(&busy, FlockOperation::LockExclusive).unwrap();
    let (made, supervision) = containers.create(config("next"), &task()).unwrap();
    assert!(!at("killed").exists() && !at("empty").exists());
    assert!(at("busy/task").exists());
    // Whoever has found it before it was removed leaves nothing there by looking.
    let seen = containers.find("next").unwrap();
    let _ = std::fs::remove_file(seen.path.join(LOCK));
    assert!(!seen.is_supervised());
    assert!(matches!(seen.supervise(), Err(ContainerError::Unknown(_))));
    made.remove(&supervision).unwrap();
    assert!(!made.path.exists());
}

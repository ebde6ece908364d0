//! Copies of a container that runs: each goes on by itself, runs what it is told to, and outlives its source.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::hull;

use crate::snapshots::{Store, WRITES_IN_MEMORY};

/// Waits with a shell, which `/file` tells something.
const WAITS: &str = "echo seed > /file; while :; do sleep 0.1; done";

fn nothing_is_left_of_the_save(store: &Store) {
    let drafts = std::fs::read_dir(store.0.join("snapshots/tmp"));
    assert_eq!(drafts.unwrap().count(), 0);
}

#[test]
fn copies_go_on_each_by_itself_and_outlive_their_source() {
    let store = Store::new("clone-outlives");
    let script = "n=0; while :; do n=$((n+1)); echo $n > /new; mv /new /count; sleep 0.05; done";
    store.run("source", WRITES_IN_MEMORY, script);
    let clone = ["clone", "-n", "3", "--name", "copy", "source"];
    let outcome = store.hull(&clone).finish();
    let ids: BTreeSet<String> = outcome.exits(0).out().lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    nothing_is_left_of_the_save(&store);
    let count = |name: &str| -> u64 { store.exec(name, "cat /count").trim().parse().unwrap() };
    let before = count("source");
    store.hull(&["rm", "-f", "source"]).finish().exits(0);
    let names = ["copy-1", "copy-2", "copy-3"];
    for name in names {
        store.exec(name, &format!("echo {name} > /mine"));
    }
    let start = Instant::now();
    while names.iter().any(|name| count(name) <= before) {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    for name in names {
        assert_eq!(store.exec(name, "cat /mine"), format!("{name}\n"));
    }
    let taken = store
        .hull(&["clone", "--name", "copy-1", "copy-2"])
        .finish();
    taken.complains("is in use");
    let gone = store.hull(&["clone", "source"]).finish();
    gone.exits(1).complains("There is no container \"source\"");
    let many = store.hull(&["clone", "-n", "0", "copy-1"]).finish();
    many.exits(125);
}

#[test]
fn each_copy_runs_its_command_and_goes() {
    let store = Store::new("clone-command");
    store.run("source", WRITES_IN_MEMORY, WAITS);
    let script = "echo $HULL_CLONE $(cat /file); echo $HULL_CLONE >&2; echo $HULL_CLONE > /file; exit $((HULL_CLONE / 3 * 7))";
    let clone = ["clone", "--rm", "-n", "3", "source", "sh", "-c", script];
    let outcome = store.hull(&clone).finish();
    let out = outcome.exits(7).out();
    let lines: BTreeSet<&str> = out.lines().collect();
    assert_eq!(lines, BTreeSet::from(["1 seed", "2 seed", "3 seed"]));
    assert_eq!(outcome.err().lines().count(), 3, "{outcome:?}");
    assert_eq!(store.containers(), 1);
    assert_eq!(store.exec("source", "cat /file"), "seed\n");
    nothing_is_left_of_the_save(&store);
    // Without --rm they stay.
    let clone = ["clone", "--name", "stays", "source", "true"];
    store.hull(&clone).finish().exits(0);
    assert_eq!(store.exec("stays", "cat /file"), "seed\n");
}

#[test]
fn copies_end_with_the_command_that_wanted_them() {
    let store = Store::new("clone-killed");
    store.run("source", WRITES_IN_MEMORY, WAITS);
    let words = [
        "clone",
        "--rm",
        "-n",
        "2",
        "source",
        "sh",
        "-c",
        "echo up; sleep 1000",
    ];
    let mut clone = store.hull(&words).start();
    clone.wait_for("up");
    assert_eq!(store.containers(), 3);
    clone.signal(Signal::KILL);
    let start = Instant::now();
    while store.containers() > 1 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = hull(["snapshot", "ls", "-q"]).host_env("HULL_ROOT", &store.0);
    listed.finish().prints("");
    nothing_is_left_of_the_save(&store);
}

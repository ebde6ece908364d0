//! Nothing is left behind, however a run ends: no process, no file, no mount.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
pub(crate) use tests::run::processes;
use tests::vm;

pub(crate) fn files(directory: &std::path::Path) -> BTreeSet<String> {
    let output = std::process::Command::new("find")
        .arg(directory)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(Into::into)
        .collect()
}

/// Waits until the processes that were not there before have ended; the VMM's own end is not waited for by a run.
pub(crate) fn wait_for_end(before: &BTreeSet<String>) {
    let start = Instant::now();
    loop {
        let left: Vec<_> = processes().difference(before).cloned().collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < tests::PATIENCE, "still running: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs something alone with a store of its own, and looks around before and after.
fn leaves_nothing(name: &str, run: impl Fn(&std::path::Path)) {
    let directory = tests::fixture::scratch(name).unwrap();
    let store = directory.join("store");
    vm().host_env("HULL_ROOT", &store).run("true").exits(0);
    wait_for_end(&BTreeSet::new());
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let (files_before, mounts_before) = (files(&store), mounts());
    run(&store);
    wait_for_end(&BTreeSet::new());
    assert_eq!(files(&store), files_before, "files in the store");
    assert_eq!(mounts(), mounts_before, "mounts");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn alone_after_twenty_runs() {
    leaves_nothing("twenty", |store| {
        for number in 0..20 {
            vm().host_env("HULL_ROOT", store)
                .run(&format!("echo {number}"))
                .prints(&format!("{number}\n"));
        }
    });
}

#[test]
fn alone_after_a_launcher_is_killed() {
    leaves_nothing("killed", |store| {
        let running =
            vm().host_env("HULL_ROOT", store)
                .command(["sh", "-c", "echo ready; exec sleep 1000"]);
        let mut running = running.start();
        running.wait_for("ready");
        running.signal(Signal::KILL);
        let _ = running.finish();
    });
}

#[test]
fn alone_after_a_conversion_is_killed() {
    let directory = tests::fixture::scratch("conversion").unwrap();
    let store = directory.join("store");
    // At several moments of the conversion; those that come too late are runs like any other.
    for milliseconds in [20, 60, 150, 400, 800] {
        let running = vm().host_env("HULL_ROOT", &store).command(["true"]).start();
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal(Signal::KILL);
        let _ = running.finish();
    }
    vm().host_env("HULL_ROOT", &store)
        .run("echo fine")
        .prints("fine\n");
    wait_for_end(&BTreeSet::new());
    std::fs::remove_dir_all(directory).unwrap();
}

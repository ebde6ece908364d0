//! Copies of a container that runs: each goes on by itself, runs what it is told to, and outlives its source.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::{amount, eventually, fixture, hull};

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
    eventually("copies that count", || {
        names.iter().all(|name| count(name) > before)
    });
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

/// As many as are worth it to save the first once more, for what the others begin with.
#[test]
fn many_copies_differ_from_the_first_as_few_do() {
    const NUMBER: usize = 40;
    let store = Store::new("clone-many");
    store.run("source", WRITES_IN_MEMORY, WAITS);
    let script = "echo $HULL_CLONE $(cat /file); echo $HULL_CLONE > /file; cat /file";
    let number = NUMBER.to_string();
    let clone = ["clone", "--rm", "-n", &number, "source", "sh", "-c", script];
    let outcome = store.hull(&clone).finish();
    let out = outcome.exits(0).out();
    let lines: BTreeSet<&str> = out.lines().collect();
    let wanted = (1..=NUMBER).flat_map(|copy| [format!("{copy} seed"), copy.to_string()]);
    let wanted: BTreeSet<String> = wanted.collect();
    assert!(lines.iter().copied().eq(&wanted), "{lines:?}");
    assert_eq!(store.containers(), 1);
    nothing_is_left_of_the_save(&store);
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
    eventually("the end of all copies", || store.containers() == 1);
    let listed = hull(["snapshot", "ls", "-q"]).host_env("HULL_ROOT", &store.0);
    listed.finish().prints("");
    nothing_is_left_of_the_save(&store);
}

/// Names, and bytes of memory of their own, of files, and as their share of all, as `hull stats` tells them.
fn memory(store: &Store) -> Vec<(String, [u64; 3])> {
    let fields = "{{.Name}} {{.MemPrivate}} {{.MemShared}} {{.MemPss}}";
    let stats = ["stats", "--no-stream", "--format", fields];
    let told = store.hull(&stats).finish().exits(0).out();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_owned();
        let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        (name, numbers.try_into().unwrap())
    };
    told.lines().map(line).collect()
}

#[test]
fn what_copies_have_not_written_is_not_theirs() {
    const DATA: u64 = 24_000_000;
    let store = Store::new("clone-memory");
    let script = format!("head -c {DATA} /dev/urandom > /data; echo filled; {WAITS}");
    store.run("source", WRITES_IN_MEMORY, &script);
    store.wait_for("source", "filled");
    let clone = ["clone", "-n", "3", "--name", "copy", "source"];
    store.hull(&clone).finish().exits(0);
    let names = ["copy-1", "copy-2", "copy-3"];
    for name in names {
        store.exec(name, "md5sum /data");
    }
    for (name, [private, shared, share]) in memory(&store) {
        let told = format!("{name}: {private} {shared} {share}");
        assert!(share < private + shared, "{told}");
        if name == "source" {
            assert!(private > DATA && shared < DATA / 4, "{told}");
        } else {
            // All three have looked at the data, which is there once.
            assert!(private < DATA && shared > DATA, "{told}");
            assert!(share < private + shared / 2, "{told}");
        }
    }
    store.exec("copy-2", "head -c 24000000 /dev/zero > /data");
    let changed = memory(&store)
        .into_iter()
        .find(|(name, _)| name == "copy-2");
    let (_, [private, ..]) = changed.unwrap();
    assert!(private > DATA, "{private}");
}

/// Fills a database, and says "up" when it is warm.
const DATABASE: &str = r#"
redis-server --hz 1 --enable-debug-command local --save '' --appendonly no --bind 127.0.0.1 --daemonize yes --logfile /tmp/log
until redis-cli ping >/tmp/ping 2>&1; do sleep 0.05; done
redis-cli debug populate 20000 filler 200 >/tmp/filled
redis-cli set mine nobody >/tmp/set
echo up
while :; do sleep 1000; done
"#;

#[test]
fn alone_databases_are_changed_each_by_itself() {
    let store = Store::new("clone-database");
    let number = amount("CLONES", 3);
    let run = ["run", "-d", "--name", "source", "--storage", "0"];
    let run = store.hull(&run).image(&fixture::servers());
    run.run(DATABASE).exits(0);
    store.wait_for("source", "up");
    let start = Instant::now();
    let count = number.to_string();
    let clone = ["clone", "-n", &count, "--name", "copy", "source"];
    let limit = tests::PATIENCE + Duration::from_secs(20 * number);
    let cloned = store.hull(&clone).limit(limit).finish();
    assert_eq!(cloned.exits(0).out().lines().count() as u64, number);
    let took = start.elapsed();
    println!("{number} copies run after {took:?}");
    let name = |copy: u64| match number {
        1 => "copy".to_owned(),
        _ => format!("copy-{copy}"),
    };
    let ask = "redis-cli get mine; redis-cli dbsize";
    for copy in 1..=number {
        let change = format!("redis-cli set mine {copy}; redis-cli del filler:{copy}");
        let told = store.exec(
            &name(copy),
            &format!("{ask}; redis-cli exists filler:{copy}; {change}"),
        );
        assert_eq!(told, "nobody\n20001\n1\nOK\n1\n");
    }
    for copy in 1..=number {
        let told = store.exec(
            &name(copy),
            &format!("{ask}; redis-cli exists filler:{copy} filler:0 filler:19999"),
        );
        assert_eq!(told, format!("{copy}\n20000\n2\n"));
    }
    assert_eq!(store.exec("source", ask), "nobody\n20001\n");
    let (mut own, mut share) = (0, 0);
    for (_, [private, _, part]) in memory(&store).iter().filter(|(name, _)| name != "source") {
        (own, share) = (own + private, share + part);
    }
    println!(
        "all were changed after {:?}; of each, {} KiB are its own, {} KiB its share of all",
        start.elapsed(),
        (own / number) >> 10,
        (share / number) >> 10
    );
}

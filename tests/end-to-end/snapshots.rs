//! A snapshot of a container that runs: the container does not notice, as many others go on from there as are wanted, each with
//! output, random numbers and time of its own, and nothing goes on from a snapshot that is not whole.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tests::fixture::{self, scratch};
use tests::{Vm, eventually, hull};

mod volumes;

/// A store of its own; the containers in it end with the test.
pub(crate) struct Store(pub(crate) PathBuf);

impl Store {
    pub(crate) fn new(name: &str) -> Self {
        Self(scratch(name).unwrap())
    }

    pub(crate) fn hull(&self, words: &[&str]) -> Vm {
        hull(words.iter().copied()).host_env("HULL_ROOT", &self.0)
    }

    /// A container in the background with a shell script in it, once it has said "up".
    pub(crate) fn run(&self, name: &str, options: &[&str], script: &str) {
        let run = self.hull(&["run", "-d", "--name", name]);
        let run = run.options(options).image(&fixture::busybox());
        run.run(&format!("echo up; {script}")).exits(0);
        self.wait_for(name, "up");
    }

    pub(crate) fn logs(&self, name: &str) -> String {
        let outcome = self.hull(&["logs", name]).finish();
        outcome.exits(0).out()
    }

    pub(crate) fn wait_for(&self, name: &str, text: &str) {
        eventually(text, || self.logs(name).contains(text));
    }

    pub(crate) fn exec(&self, name: &str, script: &str) -> String {
        let words = ["exec", name, "sh", "-c", script];
        self.hull(&words).finish().exits(0).out()
    }

    pub(crate) fn save(&self, container: &str, name: &str) {
        let words = ["snapshot", "create", container, name];
        self.hull(&words).finish().prints(&format!("{name}\n"));
    }

    /// The id of the one container that runs beside this one, as soon as there is one.
    pub(crate) fn other_that_runs(&self, name: &str) -> String {
        let inspect = ["inspect", "-f", "{{.Id}}", name];
        let own = self.hull(&inspect).finish().exits(0).out();
        let start = Instant::now();
        loop {
            let list = ["ps", "-q", "--no-trunc", "--filter", "status=running"];
            let ids = self.hull(&list).finish().exits(0).out();
            match ids.lines().find(|id| *id != own.trim()) {
                Some(id) if self.runs(id) => return id.to_owned(),
                _ => assert!(start.elapsed() < tests::PATIENCE, "{ids:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether its first process runs: before that it takes no command.
    pub(crate) fn runs(&self, id: &str) -> bool {
        let outcome = self.hull(&["exec", id, "true"]).finish();
        outcome.err().is_empty()
    }

    pub(crate) fn containers(&self) -> usize {
        let list = self.hull(&["ps", "-aq"]).finish();
        list.exits(0).out().lines().count()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let all = self.hull(&["ps", "-aq"]).finish().out();
        let ids = all.lines().map(str::to_owned);
        let words = ["rm".to_owned(), "-f".to_owned()].into_iter().chain(ids);
        let _ = hull(words).host_env("HULL_ROOT", &self.0).finish();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) const WRITES_IN_MEMORY: &[&str] = &["--storage", "0"];

#[test]
fn a_container_goes_on_where_it_was_and_elsewhere() {
    let store = Store::new("snapshot-goes-on");
    let script = "trap 'echo bye; exit 7' TERM; n=0; while :; do n=$((n+1)); echo $n > /next; mv /next /count; \
                  if [ -e /say ]; then cat /say >&2; cat /say; rm /say; fi; sleep 0.05; done";
    store.run("source", WRITES_IN_MEMORY, script);
    let say = |name: &str, words: &str| {
        store.exec(name, &format!("echo {words} > /new; mv /new /say"));
        store.wait_for(name, words);
    };
    let count = |name: &str| -> u64 { store.exec(name, "cat /count").trim().parse().unwrap() };
    store.exec("source", "echo early > /file");
    say("source", "before");
    let before = count("source");
    store.save("source", "one");
    say("source", "source-goes-on");
    assert!(count("source") > before);

    let listed = store.hull(&["snapshot", "ls", "-q"]).finish();
    listed.prints("one\n");
    let fields = [
        "snapshot",
        "inspect",
        "-f",
        "{{.Name}} {{.Container.Name}}",
        "one",
    ];
    store.hull(&fields).finish().prints("one source\n");
    let df = ["system", "df", "--format", "{{.Type}} {{.TotalCount}}"];
    let df = store.hull(&df).finish();
    assert!(df.exits(0).out().contains("Snapshots 1\n"), "{df:?}");
    let again = ["snapshot", "create", "source", "one"];
    let again = store.hull(&again).finish();
    again
        .exits(1)
        .complains("There is a snapshot \"one\" already");

    // The source's end is not the copies'.
    store.hull(&["stop", "source"]).finish().exits(0);
    let copy = ["run", "-d", "--from", "one", "--name", "copy"];
    store.hull(&copy).finish().exits(0);
    assert!(count("copy") >= before);
    assert_eq!(
        store.exec("copy", "cat /file; ls /say 2>/dev/null; :"),
        "early\n"
    );
    say("copy", "copy-goes-on");
    let logs = store.logs("copy");
    assert!(!logs.contains("source-goes-on"), "{logs}");
    // A snapshot of a copy is one as well.
    store.save("copy", "two");
    say("copy", "copy-goes-on-again");
    let mut run = store.hull(&["run", "--rm", "--from", "two"]).start();
    let id = store.other_that_runs("copy");
    store.exec(&id, "echo in the foreground > /new; mv /new /say");
    run.wait_for("in the foreground");
    run.signal(Signal::TERM);
    let outcome = run.finish();
    outcome.exits(7);
    assert!(outcome.out().ends_with("bye\n"), "{outcome:?}");
    assert!(outcome.err().contains("in the foreground"), "{outcome:?}");
    store
        .hull(&["snapshot", "rm", "one", "two"])
        .finish()
        .exits(0);
    say("copy", "after-the-removal");
    store.hull(&["stop", "copy"]).finish().exits(0);
    store.hull(&["wait", "copy"]).finish().prints("7\n");
    let gone = store.hull(&["run", "--from", "one"]).finish();
    gone.exits(125).complains("There is no snapshot \"one\"");
    assert_eq!(
        std::fs::read_dir(store.0.join("snapshots/tmp"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn two_copies_share_no_random_number_and_have_the_right_time() {
    let store = Store::new("snapshot-random");
    let script = "while :; do echo m $(cat /sys/class/net/eth0/address); echo r $(head -c 16 /dev/urandom | od -An -tx1); echo t $(date +%s); sleep 0.02; done";
    store.run("source", WRITES_IN_MEMORY, script);
    store.save("source", "one");
    std::thread::sleep(Duration::from_secs(3));
    let before = seconds();
    for name in ["first", "second"] {
        let run = ["run", "-d", "--from", "one", "--name", name];
        store.hull(&run).finish().exits(0);
    }
    let lines = |name: &str| -> Vec<String> {
        let mut text = String::new();
        eventually("five rounds", || {
            text = store.logs(name);
            text.matches("t ").count() > 4
        });
        text.lines().map(str::to_owned).collect()
    };
    let (a, b) = (lines("first"), lines("second"));
    let random = |lines: &[String]| -> HashSet<String> {
        let random = lines.iter().filter(|line| line.starts_with("r "));
        random.cloned().collect()
    };
    let (of_a, of_b) = (random(&a), random(&b));
    // One line at most was under way when the snapshot was made.
    assert!(of_a.len() > 2 && of_b.len() > 2, "{a:?} {b:?}");
    assert!(of_a.intersection(&of_b).count() <= 1, "{a:?} {b:?}");
    let mac = |lines: &[String]| {
        lines
            .iter()
            .rev()
            .find(|line| line.starts_with("m "))
            .cloned()
    };
    assert_ne!(mac(&a), mac(&b), "{a:?} {b:?}");
    let last = a.iter().rev().find_map(|line| line.strip_prefix("t "));
    let time: u64 = last.unwrap().parse().unwrap();
    assert!((before..=seconds()).contains(&time), "{before} {time}");
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[test]
fn what_cannot_go_on_twice_is_not_saved() {
    let store = Store::new("snapshot-refused");
    let refused = |name: &str, code: i32, words: &str| {
        let create = store.hull(&["snapshot", "create", name, "one"]).finish();
        create.exits(code).complains(words);
        assert_eq!(
            store
                .hull(&["snapshot", "ls", "-q"])
                .finish()
                .exits(0)
                .out(),
            ""
        );
    };
    refused("nobody", 1, "There is no container \"nobody\"");
    store.run("paused", WRITES_IN_MEMORY, "sleep 1000");
    store.hull(&["pause", "paused"]).finish().exits(0);
    refused("paused", 1, "is paused");
    store.hull(&["unpause", "paused"]).finish().exits(0);
    store.hull(&["kill", "paused"]).finish().exits(0);
    refused("paused", 125, "does not run");
}

#[test]
fn nothing_goes_on_from_half_a_snapshot() {
    let store = Store::new("snapshot-damaged");
    store.run("source", WRITES_IN_MEMORY, "sleep 1000");
    store.save("source", "one");
    let containers = store.containers();
    let from = |words: &str| {
        let run = store.hull(&["run", "--rm", "--from", "one"]).finish();
        run.exits(125).complains(words);
        assert_eq!(store.containers(), containers);
    };
    let directory = store.0.join("snapshots/one");
    for name in ["machine", "container"] {
        let file = directory.join(name);
        let good = std::fs::read(&file).unwrap();
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
        };
        let middle = good.len() / 2;
        changed(&|bytes| bytes[middle] ^= 1);
        from("is damaged: its sum is wrong");
        changed(&|bytes| bytes.truncate(middle));
        from("bytes, and says that it has");
        changed(&|bytes| bytes[8] = 0xff);
        from("was saved in version");
        changed(&|bytes| bytes.fill(b'x'));
        from("holds no saved machine");
        std::fs::write(&file, &good).unwrap();
    }
    let memory = std::fs::File::options()
        .write(true)
        .open(directory.join("memory"));
    memory.unwrap().set_len(1 << 20).unwrap();
    from("its memory does not fit the rest");
    store
        .hull(&["snapshot", "rm", "one"])
        .finish()
        .prints("one\n");
}

#[test]
fn a_disk_goes_with_it_and_is_each_ones_own() {
    let store = Store::new("snapshot-disk");
    store.run(
        "source",
        &["--storage", "1g"],
        "while :; do sleep 0.1; done",
    );
    store.exec(
        "source",
        "echo early > /file; seq 1 300000 > /many; md5sum < /many > /sum",
    );
    store.save("source", "one");
    store.exec("source", "echo late > /file; rm /many");
    let run = ["run", "-d", "--from", "one", "--name", "copy"];
    store.hull(&run).finish().exits(0);
    let told = store.exec(
        "copy",
        "cat /file; md5sum < /many | cmp - /sum && echo same",
    );
    assert_eq!(told, "early\nsame\n");
    store.exec("copy", "echo of the copy > /file");
    assert_eq!(store.exec("source", "cat /file"), "late\n");
    store.hull(&["kill", "copy"]).finish().exits(0);
    // Started again it boots, with what it wrote.
    store.hull(&["start", "copy"]).finish().exits(0);
    let told = store.exec(
        "copy",
        "cat /file; md5sum < /many | cmp - /sum && echo same",
    );
    assert_eq!(told, "of the copy\nsame\n");
}

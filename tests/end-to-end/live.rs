//! A snapshot that is live: the container goes on while its memory is written, what is written is of one moment all the same,
//! and nothing is left of one that is not made.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::run::Running;

use crate::snapshots::{Store, WRITES_IN_MEMORY};

/// So much memory that writing it takes a while.
const LARGE: [&str; 4] = ["--storage", "0", "--memory", "768m"];
/// Fills it.
const FILL: &str = "head -c 1048576 /dev/urandom > /part; seq 300 | while read n; do cat /part; done > /filling; echo filled";
/// Notes by how much the clock has gone on at most from one look at it to the next, in hundredths of a second.
const WATCH: &str = "look() { read up rest < /proc/uptime; now=${up%.*}${up#*.}; }; look; last=$now; most=0; echo 0 > /most; \
    while :; do look; gap=$((now-last)); last=$now; \
    if [ -e /anew ]; then rm /anew; most=0; echo 0 > /most; look; last=$now; fi; \
    if [ $gap -gt $most ]; then most=$gap; echo $most > /most; look; last=$now; fi; done";

impl Store {
    /// A container with much in its memory, that waits.
    fn fill(&self) {
        self.run("source", &LARGE, &format!("{FILL}; sleep 1000"));
        self.wait_for("source", "filled");
    }

    /// Has a snapshot made, with these options, and says how long its container stood still for it.
    fn pause_for(&self, options: &[&str], name: &str) -> u64 {
        self.exec("source", "> /anew; while [ -e /anew ]; do :; done");
        let create = [&["snapshot", "create"], options, &["source", name]].concat();
        let create = self.hull(&create).limit(Duration::from_secs(180));
        create.finish().prints(&format!("{name}\n"));
        self.exec("source", "cat /most").trim().parse().unwrap()
    }

    /// Begins a live snapshot; gives it with the process that writes its memory, which stands still once it has begun: it goes on until
    /// the test has seen what it wants, on a slow machine too.
    fn begin_live(&self, name: &str) -> (Running, Pid) {
        let inspect = ["inspect", "-f", "{{.State.Pid}}", "source"];
        let vmm = self.hull(&inspect).finish().exits(0).out();
        let create = ["snapshot", "create", "--live", "source", name];
        let create = self.hull(&create).limit(Duration::from_secs(180)).start();
        let memory = self.draft(name).join("memory");
        let start = Instant::now();
        while std::fs::metadata(&memory).map_or(0, |data| data.blocks()) == 0 {
            assert!(start.elapsed() < tests::PATIENCE, "nothing is written");
            std::thread::sleep(Duration::from_millis(1));
        }
        let children = format!("/proc/{0}/task/{0}/children", vmm.trim());
        let children = std::fs::read_to_string(children).unwrap();
        let writer = children.trim().parse().expect("the VMM has one child");
        let writer = Pid::from_raw(writer).unwrap();
        kill_process(writer, Signal::STOP).expect("it takes longer than this");
        (create, writer)
    }

    fn draft(&self, name: &str) -> PathBuf {
        self.0.join("snapshots/tmp").join(name)
    }

    fn no_draft_is_left(&self) {
        let drafts = std::fs::read_dir(self.0.join("snapshots/tmp")).unwrap();
        assert_eq!(drafts.count(), 0);
        let list = self.hull(&["snapshot", "ls", "-q"]).finish();
        list.exits(0).prints("");
    }
}

fn is_gone(process: Pid) {
    let start = Instant::now();
    while Path::new(&format!("/proc/{process}")).exists() {
        assert!(start.elapsed() < tests::PATIENCE, "{process} is left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_container_goes_on_while_its_memory_is_written() {
    let store = Store::new("live-goes-on");
    store.run("source", &LARGE, &format!("{FILL}; {WATCH}"));
    store.wait_for("source", "filled");
    let paused = store.pause_for(&[], "one");
    store.hull(&["snapshot", "rm", "one"]).finish().exits(0);
    let live = store.pause_for(&["--live"], "two");
    assert!(live * 3 < paused, "{live} {paused}");
    // Another one, for nothing is left of the first, and what goes on from it.
    store.hull(&["snapshot", "rm", "two"]).finish().exits(0);
    store.pause_for(&["--live"], "three");
    let copy = ["run", "-d", "--from", "three", "--name", "copy"];
    store.hull(&copy).finish().exits(0);
    let compare = "for at in 1 99 299; do dd if=/filling bs=1M skip=$at count=1 2>/dev/null | cmp - /part && echo same; done";
    assert_eq!(store.exec("copy", compare), "same\n".repeat(3));
    // A copy's memory is a view of the snapshot's, and it is saved as well.
    let create = ["snapshot", "create", "--live", "copy", "four"];
    let create = store.hull(&create).limit(Duration::from_secs(180));
    create.finish().prints("four\n");
    let again = ["run", "-d", "--from", "four", "--name", "again"];
    store.hull(&again).finish().exits(0);
    assert_eq!(store.exec("again", compare), "same\n".repeat(3));
    let verify = ["snapshot", "inspect", "--verify", "three"];
    store.hull(&verify).finish().exits(0);
}

#[test]
fn nothing_is_left_of_a_live_snapshot_that_is_not_made() {
    let store = Store::new("live-not-made");
    store.fill();
    let (create, writer) = store.begin_live("one");
    let open = std::fs::read_dir(format!("/proc/{writer}/fd")).unwrap();
    let open: Vec<PathBuf> = open
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    let known = |path: &&PathBuf| {
        path.ends_with("tmp/one/memory") || path.to_string_lossy().starts_with("socket:")
    };
    assert!(
        open.len() == 2 && open.iter().filter(known).count() == 2,
        "{open:?}"
    );
    assert_eq!(store.exec("source", "echo runs"), "runs\n");
    let second = ["snapshot", "create", "--live", "source", "two"];
    let second = store.hull(&second).finish();
    second
        .exits(1)
        .complains("another snapshot of it is being made");
    let clone = store.hull(&["clone", "source"]).finish();
    clone
        .exits(1)
        .complains("another snapshot of it is being made");
    store.hull(&["kill", "source"]).finish().exits(0);
    let create = create.finish();
    create
        .exits(1)
        .complains("Container source was not saved: it has ended");
    is_gone(writer);
    store.no_draft_is_left();
}

#[test]
fn a_live_snapshot_goes_with_the_supervisor() {
    let store = Store::new("live-killed");
    store.fill();
    let (create, writer) = store.begin_live("one");
    let inspect = ["inspect", "-f", "{{.State.SupervisorPid}}", "source"];
    let supervisor = store.hull(&inspect).finish().exits(0).out();
    let kill = Command::new("kill")
        .args(["-9", supervisor.trim()])
        .status();
    assert!(kill.unwrap().success());
    let create = create.finish();
    create.exits(1).complains("was not saved");
    is_gone(writer);
    store.no_draft_is_left();
}

#[test]
fn a_live_snapshot_that_does_not_fit_on_the_disk_leaves_the_container_as_it_is() {
    let store = Store::new("live-full");
    let small = store.0.join("snapshots");
    std::fs::create_dir(&small).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"]);
    let status = mount.arg(&small).status().unwrap();
    assert!(status.success(), "the lab's root may mount");
    let options = [WRITES_IN_MEMORY, &["--memory", "256m"]].concat();
    let fill = "head -c 31457280 /dev/urandom > /filling; echo filled; sleep 1000";
    store.run("source", &options, fill);
    store.wait_for("source", "filled");
    let create = ["snapshot", "create", "--live", "source", "one"];
    let create = store.hull(&create).finish();
    create.exits(1).complains("No space left on device");
    store.no_draft_is_left();
    assert_eq!(store.exec("source", "echo runs"), "runs\n");
    let unmount = Command::new("umount").arg(&small).status();
    assert!(unmount.unwrap().success());
    store.save("source", "one");
}

#[test]
fn memory_and_disk_of_a_live_snapshot_are_of_one_moment() {
    let store = Store::new("live-disk");
    // A number goes to memory, to the disk, and on. When it starts again, it says how many are on the disk.
    let script = "if mkdir /kept 2>/dev/null; then \
        n=0; while :; do n=$((n+1)); echo $n > /dev/shm/new; mv /dev/shm/new /dev/shm/n; echo $n > /kept/$n; sync; done; \
        fi; cd /kept; n=0; while [ \"$(cat $((n+1)) 2>/dev/null)\" = $((n+1)) ]; do n=$((n+1)); done; echo $n";
    store.run("source", &["--storage", "1g"], script);
    std::thread::sleep(Duration::from_secs(1));
    let create = ["snapshot", "create", "--live", "source", "one"];
    store.hull(&create).finish().prints("one\n");
    let copy = ["run", "-d", "--from", "one", "--name", "copy"];
    store.hull(&copy).finish().exits(0);
    let number = || -> u64 { store.exec("copy", "cat /dev/shm/n").trim().parse().unwrap() };
    let first = number();
    std::thread::sleep(Duration::from_secs(1));
    let later = number();
    assert!(first > 1 && later > first, "{first} {later}");
    store.hull(&["kill", "copy"]).finish().exits(0);
    let again = store.hull(&["start", "-a", "copy"]).finish();
    let told = again.exits(0).out();
    let kept: u64 = told.strip_prefix("up\n").unwrap().trim().parse().unwrap();
    assert!(kept >= later - 1, "{kept} {later}");
}

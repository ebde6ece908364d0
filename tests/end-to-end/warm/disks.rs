//! Containers that keep what they write begin in templates too: each on its own disk, of which the template has not seen a byte.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tests::fixture;
use tests::{Outcome, Vm, eventually};

use super::was_warm;
use crate::snapshots::Store;

/// A command in this store; machines come from templates, which are made if need be.
fn warm(store: &Store, words: &[&str]) -> Vm {
    store.hull(words).host_env("HULL_START", "warm")
}

fn run(store: &Store, name: &str, options: &[&str], script: &str) -> Outcome {
    let run = warm(store, &["run", "--name", name]).options(options);
    run.image(&fixture::busybox()).run(script)
}

/// Starts it again, from a template that was there and is still, and stays until it ends.
fn start(store: &Store, name: &str) -> Outcome {
    let before = used(store);
    let outcome = warm(store, &["start", "-a", name]).finish();
    let after = used(store);
    assert_eq!(before.len(), after.len(), "{outcome:?}");
    assert!(before.iter().max() < after.iter().max(), "{outcome:?}");
    outcome
}

/// When each of the templates was last used.
fn used(store: &Store) -> Vec<SystemTime> {
    let entries = std::fs::read_dir(store.0.join("templates")).unwrap();
    let machines = entries.flatten().map(|entry| entry.path().join("machine"));
    let found = machines.filter_map(|path| path.metadata().ok()?.modified().ok());
    found.collect()
}

fn field(store: &Store, name: &str, field: &str) -> String {
    let format = format!("--format={{{{.{field}}}}}");
    let outcome = store.hull(&["inspect", &format, name]).finish();
    outcome.exits(0).out().trim().to_owned()
}

fn disk(store: &Store, name: &str) -> PathBuf {
    let id = field(store, name, "Id");
    store.0.join("containers").join(id).join("storage")
}

/// In the disk's superblock; 4 bytes of 16.
const UUID: u64 = 1024 + 104;
const SHOW_UUID: &str = "mknod /vdb b $(sed 's/:/ /' /sys/block/vdb/dev); \
                         dd if=/vdb bs=4 skip=282 count=1 2>/dev/null | od -An -tx1; rm /vdb";

#[test]
fn each_has_its_own_and_finds_it_again() {
    let store = Store::new("warm-disks");
    let script =
        format!("cat /kept /tmp/kept; echo $0 | tee -a /kept >>/tmp/kept; {SHOW_UUID}; sync");
    for name in ["one", "two"] {
        let options = ["--timings", "--privileged"];
        let script = format!("set -- {name}; {}", script.replace("$0", "$1"));
        let outcome = run(&store, name, &options, &script);
        assert!(was_warm(outcome.exits(0)), "{outcome:?}");
        let mut uuid = [0; 4];
        let file = std::fs::File::open(disk(&store, name)).unwrap();
        file.read_exact_at(&mut uuid, UUID).unwrap();
        let uuid: String = uuid.iter().map(|byte| format!(" {byte:02x}")).collect();
        assert_eq!(outcome.out(), format!("{uuid}\n"));
        for times in 1..=2 {
            let lines = format!("{name}\n").repeat(times * 2);
            assert_eq!(start(&store, name).out(), format!("{lines}{uuid}\n"));
        }
    }
    assert_eq!(used(&store).len(), 1, "one template for both");
    // What looks into a container that does not run sees the same.
    let changes = store.hull(&["diff", "two"]).finish();
    assert_eq!(changes.exits(0).out().matches("/kept\n").count(), 2);
    store.hull(&["commit", "two", "kept:1"]).finish().exits(0);
    let image = warm(&store, &["run", "--rm"]).image("kept:1");
    image.run("cat /kept").prints(&"two\n".repeat(3));
    let place = store.0.join("out");
    let words = ["cp", "two:/kept", place.to_str().unwrap()];
    store.hull(&words).finish().exits(0);
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "two\n".repeat(3));
}

#[test]
fn a_copy_is_furnished_as_a_machine_that_booted() {
    let store = Store::new("warm-disk-same");
    let script = "cat /proc/self/mounts; ls -al /; ls -l /dev /proc/self/fd/0; stat -c '%a %u' /tmp /run; \
                  cat /proc/sys/kernel/random/boot_id >/id; grep -c . /id; touch /etc/x; id; exit 9";
    for options in [&[][..], &["--read-only"], &["--privileged"]] {
        let told = |way: &str| {
            let all = [options, &["--start", way, "--hostname", "box"]].concat();
            let run = store.hull(&["run", "--name", "it"]).options(all);
            let outcome = run.image(&fixture::busybox()).run(script);
            store.hull(&["rm", "it"]).finish().exits(0);
            // Times of files differ.
            let (mut out, digits) = (outcome.exits(9).out(), |c: char| c.is_ascii_digit());
            out.retain(|c| !digits(c) && c != ' ');
            (out, outcome.err())
        };
        assert_eq!(told("warm"), told("cold"), "{options:?}");
    }
}

#[test]
fn a_disk_of_another_size_is_another_template() {
    let store = Store::new("warm-disk-sizes");
    let size = "df -k / | awk 'NR==2{print $2<17000}'";
    for (name, bytes, small) in [("small", "16m", "1\n"), ("large", "64m", "0\n")] {
        let outcome = run(&store, name, &["--timings", "--storage", bytes], size);
        assert!(was_warm(outcome.exits(0)), "{outcome:?}");
        assert_eq!(outcome.out(), small);
    }
    assert_eq!(used(&store).len(), 2);
    // One that another hull made longer: that machine boots.
    let file = std::fs::File::options()
        .write(true)
        .open(disk(&store, "large"));
    file.unwrap().set_len(96 << 20).unwrap();
    let longer = warm(&store, &["start", "-a", "large"]).finish();
    longer.prints("0\n");
}

#[test]
fn a_full_disk_is_no_reason_not_to_start() {
    let store = Store::new("warm-disk-full");
    // The second file is in pieces, the list of which takes of what is kept back from data: then a block that is freed cannot be had.
    let fill = "test -e /d && exec echo again; mkdir /d; \
                dd if=/dev/zero of=/big bs=1M count=40 2>&1 | grep -c 'No space'; \
                truncate -s $(($(stat -c %s /big) - 1200 * 1024)) /big; sync; \
                i=0; while echo x 2>/dev/null >/d/$i; do i=$((i+1)); test $i = 300 && break; done; sync; \
                rm /d/*[02468]; sync; dd if=/dev/zero of=/pieces bs=4k 2>/dev/null; sync";
    run(&store, "it", &["--storage", "16m"], fill).prints("1\n");
    start(&store, "it").prints("again\n");
}

#[test]
fn whatever_ends_it_the_next_start_finds_a_whole_file_system() {
    let store = Store::new("warm-disk-killed");
    let script = "test -e /durable && { md5sum /durable; ls /gone; exit 3; }; \
                  dd if=/dev/urandom of=/durable bs=1M count=4 2>/dev/null; sync; md5sum /durable; sleep 1000";
    run(&store, "it", &["-d"], script).exits(0);
    store.wait_for("it", "durable");
    let sum = store.logs("it");
    let kill = || {
        let vmm = field(&store, "it", "State.Pid");
        if let Some(vmm) = vmm.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(vmm, Signal::KILL);
        }
    };
    kill();
    store.hull(&["wait", "it"]).finish().exits(0);
    // While the disk is being mounted, as often as not.
    for milliseconds in [30, 60, 100, 150, 200, 300] {
        let running = warm(&store, &["start", "-a", "it"]).start();
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill();
        let _ = running.finish();
    }
    let again = start(&store, "it");
    assert_eq!(again.exits(3).out(), sum);
}

#[test]
fn a_container_from_a_template_can_be_saved_and_copied() {
    let store = Store::new("warm-disk-saved");
    let script = "echo one >/file; sync; echo up; while :; do sleep 0.1; done";
    run(&store, "it", &["-d"], script).exits(0);
    store.wait_for("it", "up");
    assert_eq!(used(&store).len(), 1);
    store.save("it", "saved");
    store.exec("it", "echo two >>/file; sync");
    let from = ["run", "-d", "--name", "copy", "--from", "saved"];
    warm(&store, &from).finish().exits(0);
    let words = [
        "clone",
        "-n",
        "2",
        "--rm",
        "it",
        "sh",
        "-c",
        "cat /file; echo $HULL_CLONE >>/file",
    ];
    let clones = store.hull(&words).finish();
    assert_eq!(
        clones.exits(0).out().matches("two\n").count(),
        2,
        "{clones:?}"
    );
    eventually("a copy that runs", || store.runs("copy"));
    assert_eq!(store.exec("copy", "cat /file"), "one\n");
    assert_eq!(store.exec("it", "cat /file"), "one\ntwo\n");
    // And started anew, from the template.
    store.hull(&["stop", "-t", "0", "copy"]).finish().exits(0);
    warm(&store, &["start", "copy"]).finish().exits(0);
    assert_eq!(store.exec("copy", "cat /file"), "one\n");
}

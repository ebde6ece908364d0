//! From the second run of an image on, machines begin where a template was saved: nobody sees a difference but in time, no two
//! share a random number, and whatever becomes of a template, the run goes on.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tests::fixture::{self, scratch};
use tests::{Outcome, Vm, eventually, hull, vm};

mod disks;
mod volumes;

/// A store of its own, with what is in it.
struct Store(PathBuf);

impl Store {
    fn new(name: &str) -> Self {
        Self(scratch(name).unwrap())
    }

    fn vm(&self) -> Vm {
        vm().host_env("HULL_ROOT", &self.0)
    }

    /// A run in a machine from a template if there is one; else one is left. So it is where nobody says how.
    fn auto(&self) -> Vm {
        self.vm().no_host_env("HULL_START")
    }

    /// A run in a machine from a template, which is made if need be.
    fn warm(&self) -> Vm {
        self.vm().options(["--start", "warm"])
    }

    fn hull(&self, words: &[&str]) -> Outcome {
        hull(words.iter().copied())
            .host_env("HULL_ROOT", &self.0)
            .finish()
    }

    /// The templates there are, and the drafts.
    fn templates(&self) -> Vec<PathBuf> {
        let entries = |path: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let mut found = entries(&self.0.join("templates"));
        found.retain(|path| !path.ends_with("tmp"));
        found
    }

    fn drafts(&self) -> usize {
        std::fs::read_dir(self.0.join("templates/tmp")).map_or(0, Iterator::count)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a run with `--timings` began in a template.
fn was_warm(outcome: &Outcome) -> bool {
    let told = outcome.err();
    let has = |row: &str| told.lines().any(|line| line.starts_with(row));
    assert_ne!(has("restore"), has("kernel"), "{outcome:?}");
    has("restore")
}

#[test]
fn the_second_run_is_warm_and_tells_the_same() {
    let store = Store::new("warm-second");
    let script = "echo out; echo err >&2; cat; id -u; pwd; env | sort; mount | wc -l; ls -a / /dev /tmp; exit 9";
    let run = |way: &str| {
        let options = [
            "--start",
            way,
            "--hostname",
            "box",
            "-e",
            "A=b",
            "-w",
            "/made",
        ];
        store.vm().options(options).stdin("in\n").run(script)
    };
    // The first leaves a template when it is over; nobody waits for that.
    let first = store.auto().option("--timings").run("true");
    assert!(!was_warm(first.exits(0)), "{first:?}");
    eventually("a template", || {
        store.templates().len() == 1 && store.drafts() == 0
    });
    let second = store.auto().option("--timings").run("exit 3");
    assert!(was_warm(second.exits(3)), "{second:?}");
    let (cold, warm) = (run("cold"), run("auto"));
    assert_eq!((warm.out(), warm.err()), (cold.out(), cold.err()));
    cold.exits(9);
    warm.exits(9);
    let cold = store
        .vm()
        .options(["--timings", "--start", "cold"])
        .run("true");
    assert!(!was_warm(cold.exits(0)), "{cold:?}");
    assert_eq!(store.templates().len(), 1, "cold runs leave none");
    store.auto().command(["/nowhere"]).finish().exits(127);
    let odd = store.vm().host_env("HULL_START", "hot").run("true");
    odd.exits(125).complains("It is auto, cold or warm");
    let df = store.hull(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert!(df.exits(0).out().contains("Templates 1"), "{df:?}");
}

#[test]
fn two_copies_share_no_random_number_and_have_the_right_time() {
    let store = Store::new("warm-random");
    // The entropy device's own buffer too: root in a container can make its node.
    let script = "cd /proc/sys/kernel/random; cat boot_id uuid; head -c 16 /dev/urandom | od -x; \
                  mknod /hwrng c 10 183 && head -c 16 /hwrng | od -x; \
                  awk 'BEGIN { srand(); }'; date +%s";
    let told: Vec<Vec<String>> = (0..3)
        .map(|_| {
            let before = seconds();
            let outcome = store.warm().option("--privileged").run(script);
            let lines: Vec<String> = outcome.exits(0).out().lines().map(str::to_owned).collect();
            let time: u64 = lines.last().unwrap().parse().unwrap();
            assert!((before..=seconds()).contains(&time), "{before} {time}");
            lines
        })
        .collect();
    assert!(told[0].len() >= 7, "{told:?}");
    for place in [0, 1, 2, 4] {
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            assert_ne!(
                told[one][place], told[other][place],
                "line {place} of {told:?}"
            );
        }
    }
}

#[test]
fn a_template_has_the_first_runs_program_and_knows_what_copies_write() {
    let store = Store::new("warm-ahead");
    let kicks = |outcome: &Outcome| -> u32 {
        let told = outcome.err();
        let row = told.lines().find_map(|line| line.strip_prefix("kicks"));
        row.unwrap().trim().parse().unwrap()
    };
    let run = || {
        store
            .warm()
            .option("--timings")
            .command(["/bin/busybox", "true"])
    };
    run().finish().exits(0);
    let warm = || {
        let outcome = run().finish();
        assert!(was_warm(outcome.exits(0)), "{outcome:?}");
        kicks(&outcome)
    };
    // 27 where the program is read from the disk: ten requests, and what comes of them. A busy machine adds a few, at times.
    let fewest = (0..5).map(|_| warm()).min();
    assert!(fewest < Some(20), "{fewest:?}");
    let machine = std::fs::read(store.templates()[0].join("machine")).unwrap();
    // Magic, version, length of the description: then the length of what is written, 8 bytes for a run of pages.
    let length = u32::from_le_bytes(machine[16..20].try_into().unwrap());
    assert!((10 * 8..2000 * 8).contains(&length), "{length}");
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[test]
fn each_shape_has_a_template_of_its_own_and_all_go_with_their_image() {
    let store = Store::new("warm-shapes");
    let shapes: [&[&str]; 3] = [&[], &["--memory", "300m"], &["--cpus", "2"]];
    for (number, shape) in (1..).zip(shapes) {
        let run = store.warm().options(shape).option("--timings");
        let script = "grep -c processor /proc/cpuinfo; free -m | awk '/Mem/ { print ($2 > 260) }'";
        let outcome = run.run(script);
        assert!(was_warm(outcome.exits(0)), "{outcome:?}");
        let (cpus, large) = (if number == 3 { 2 } else { 1 }, u8::from(number == 2));
        assert_eq!(outcome.out(), format!("{cpus}\n{large}\n"));
        assert_eq!(store.templates().len(), number);
    }
    store.warm().image(&fixture::entries()).run("true").exits(0);
    assert_eq!(store.templates().len(), 4, "another image");
    store.hull(&["image", "prune", "--all"]).exits(0);
    assert!(store.templates().is_empty());
}

#[test]
fn a_damaged_or_vanished_template_hinders_nobody() {
    let store = Store::new("warm-damaged");
    store.warm().run("true").exits(0);
    let template = store.templates().remove(0);
    let machine = template.join("machine");
    let good = std::fs::read(&machine).unwrap();
    let flipped = {
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    for bad in [&flipped[..], &good[..good.len() / 2]] {
        std::fs::write(&machine, bad).unwrap();
        let outcome = store.auto().option("--timings").run("echo fine");
        outcome
            .prints("fine\n")
            .complains("The saved machine is of no use");
        assert!(!was_warm(&outcome));
        // It was removed, and the next one made at the end of that run.
        eventually("a template", || {
            store.drafts() == 0 && std::fs::read(&machine).is_ok_and(|bytes| bytes != bad)
        });
    }
    std::fs::File::options()
        .write(true)
        .open(template.join("memory"))
        .and_then(|file| file.set_len(1 << 20))
        .unwrap();
    store.auto().run("echo short").prints("short\n");
    // Removed while a machine runs from it: that one does not notice.
    let script = "echo up; read line; cat /bin/busybox | md5sum; echo $line";
    store.warm().run("true").exits(0);
    let plain = store
        .vm()
        .options(["--start", "cold"])
        .run("cat /bin/busybox | md5sum");
    let mut run = store
        .warm()
        .stdin_open()
        .command(["sh", "-c", script])
        .start();
    run.wait_for("up");
    for path in store.templates() {
        std::fs::remove_dir_all(path).unwrap();
    }
    let outcome = run.say("still here\n").finish();
    assert_eq!(
        outcome.exits(0).out(),
        format!("{}still here\n", plain.out())
    );
}

#[test]
fn a_maker_that_is_killed_leaves_nothing_that_hinders() {
    let store = Store::new("warm-killed");
    // It shows itself by its draft.
    store.auto().run("true").exits(0);
    eventually("a draft or a template", || {
        store.drafts() > 0 || !store.templates().is_empty()
    });
    for process in tests::run::processes() {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let root = format!("HULL_ROOT={}", store.0.display());
        let of_store = String::from_utf8_lossy(&environment).contains(&root);
        let id = process.parse().ok();
        if let (true, Some(id)) = (of_store, id.and_then(rustix::process::Pid::from_raw)) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    }
    store.auto().run("echo fine").prints("fine\n");
    eventually("a template", || {
        store.templates().len() == 1 && store.drafts() == 0
    });
    let outcome = store.auto().option("--timings").run("true");
    assert!(was_warm(outcome.exits(0)), "{outcome:?}");
}

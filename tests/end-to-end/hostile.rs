//! A guest that attacks every device from both its processors (tests/hostile) ends its own machine at worst: the VMM ends in
//! order, in bounded memory and with few words, and nothing outside the shared directory is any different.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tests::fixture::scratch;
use tests::hostile::{Orders, program};
use tests::run::Outcome;
use tests::{asked, vm};

use crate::leftovers::{files, processes, wait_for_end};

/// Steps of one machine: some ten seconds in the lab.
const ROUND: u64 = 25_000;
/// How long it goes on unless `$HULL_SOAK_STEPS` says how many steps there are to be.
const USUAL: Duration = Duration::from_secs(60);
/// The guest's memory, in MiB.
pub(crate) const MEMORY: u64 = 64;
/// What a process of hull may have beside its guest's memory, in MiB; and what one with the address sanitizer, which keeps what was
/// freed.
const MOST_MEMORY: u64 = 64;
const MOST_SANITIZED: u64 = 512;
const MOST_LOG: usize = 1 << 20;

/// The host as the guest must not change it: what is next to the shared directory and what is shared read-only.
struct Host {
    directory: PathBuf,
}

impl Host {
    fn new() -> Self {
        let directory = scratch("hostile").unwrap();
        for name in ["library", "outside", "read-only", "shared"] {
            fs::create_dir(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("canary"), name).unwrap();
        }
        // A guest may fill what it may write to: not all of the host.
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]);
        let status = mount.arg(directory.join("shared")).status().unwrap();
        assert!(status.success(), "the lab's root may mount");
        Self { directory }
    }

    fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// All there is to say of the files that must stay as they are.
    fn told(&self) -> String {
        let script = "cd $1 && ls && find outside read-only -printf '%p %y %m %U %s %T@ %l\\n' && cat outside/* read-only/*";
        let mut find = Command::new("sh");
        let output = find
            .args(["-c", script, "sh"])
            .arg(&self.directory)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the guest, and gives what came of it and the most memory that one process of hull had for itself, in MiB.
    fn run(&self, orders: Orders) -> (Outcome, u64) {
        let library = self.directory.join("library");
        fs::write(library.join("initramfs"), orders.initramfs()).unwrap();
        let share = |name: &str| self.directory.join(name).display().to_string();
        let run = vm()
            .host_env("HULL_LIB", &library)
            .host_env("HULL_ROOT", self.store())
            .options(["--memory".into(), format!("{MEMORY}m")])
            .options(["--cpus".into(), orders.processors.to_string()])
            .options(["--storage=16m", "--start=cold", "--kernel"])
            .option(program())
            .option(format!("--volume={}:/shared", share("shared")))
            .option(format!("--volume={}:/read-only:ro", share("read-only")))
            .command(["true"])
            .start();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(
                        processes()
                            .iter()
                            .map(|id| own_memory(id, MEMORY))
                            .max()
                            .unwrap_or(0),
                    );
                    std::thread::sleep(Duration::from_millis(300));
                }
                most
            });
            let outcome = run.finish();
            done.store(true, Ordering::Relaxed);
            (outcome, watcher.join().unwrap())
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let shared = self.directory.join("shared");
        let _ = Command::new("umount").arg("--lazy").arg(shared).status();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Memory in MiB that a process holds, but for a mapping that has the size of the guest's memory, also in MiB. Nothing for one that
/// is gone.
pub(crate) fn own_memory(process: &str, guest: u64) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
    let number = |line: &str, name: &str| -> Option<u64> {
        let rest = line.strip_prefix(name)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let (mut size, mut sum) = (0, 0);
    for line in maps.lines() {
        size = number(line, "Size:").unwrap_or(size);
        if size != guest * 1024 {
            sum += number(line, "Rss:").unwrap_or(0);
        }
    }
    sum / 1024
}

/// The number before a word of the guest's last ones; none if it ended before it could say them.
fn said(outcome: &Outcome, word: &str) -> u64 {
    let error = outcome.err();
    let number = error
        .split_once(word)
        .and_then(|(before, _)| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn alone_a_hostile_guest_harms_nothing_but_its_own_machine() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = asked("SEED").unwrap_or(now.as_secs());
    let wanted = asked("STEPS");
    let most_memory = asked("SANITIZED").map_or(MOST_MEMORY, |_| MOST_SANITIZED);
    let host = Host::new();
    vm().host_env("HULL_ROOT", host.store())
        .option(format!(
            "--volume={}:/shared",
            host.directory.join("shared").display()
        ))
        .run("true")
        .exits(0);
    wait_for_end(&BTreeSet::new());
    let before = (host.told(), files(&host.store()), mounts());
    let start = Instant::now();
    let (mut steps, mut second, mut memory, mut words, mut ends) = (0, 0, 0, 0, [0; 4]);
    let made = || files(&host.directory.join("shared")).len();
    for round in 0.. {
        // What it writes it also removes: there may be nothing just after a round.
        let enough = || start.elapsed() > USUAL && round > 2 && (made() > 2 || round > 99);
        if wanted.map_or_else(enough, |wanted| steps >= wanted) {
            break;
        }
        // Each in a while with one processor, and each in a while with lies.
        let orders = Orders {
            seed: seed + round,
            steps: ROUND,
            processors: if round % 5 == 4 { 1 } else { 2 },
            lies: round % 5 == 2,
        };
        println!("{orders:?}");
        let (outcome, own) = host.run(orders);
        // The launcher tells what became of the guest; what it never tells is that the VMM died.
        let ends_known = ["hostile guest: ", "triple fault", "The guest", "A frame of"];
        let end = ends_known
            .iter()
            .position(|words| outcome.err().contains(words));
        let end = end.unwrap_or_else(|| panic!("{orders:?}: {outcome:?}"));
        outcome.exits(125);
        assert!(
            outcome.stderr.len() < MOST_LOG,
            "{orders:?}: {} bytes",
            outcome.stderr.len()
        );
        assert!(
            own < most_memory,
            "{orders:?}: {own} MiB beside the guest's memory"
        );
        assert_eq!(
            host.told(),
            before.0,
            "{orders:?}: files next to the shared directory"
        );
        wait_for_end(&BTreeSet::new());
        assert_eq!(
            files(&host.store()),
            before.1,
            "{orders:?}: files in the store"
        );
        assert_eq!(mounts(), before.2, "{orders:?}: mounts");
        ends[end] += 1;
        steps += said(&outcome, " steps, ");
        second += said(&outcome, " of the second");
        (memory, words) = (memory.max(own), words.max(outcome.stderr.len()));
    }
    let made = made();
    let [by_itself, faults, stopped, broken] = ends;
    let stopped = stopped + broken;
    println!(
        "hostile guest, seed {seed}: {steps} steps, {second} of the second processor, in {:.0} s; {by_itself} machines ended by \
        themselves, {faults} in a triple fault, {stopped} were stopped; at most {memory} MiB beside the guest's memory and \
        {words} bytes of messages; {made} files in the shared directory",
        start.elapsed().as_secs_f64()
    );
    assert!(by_itself > 0, "no machine lived to its end");
    assert!(second > 0, "the second processor did nothing");
    assert!(made > 2, "the guest got nothing written: it spoke no FUSE");
    // The host is as fit as before.
    vm().host_env("HULL_ROOT", host.store())
        .run("echo fit")
        .prints("fit\n");
}

pub(crate) fn mounts() -> String {
    fs::read_to_string(Path::new("/proc/self/mounts")).unwrap()
}

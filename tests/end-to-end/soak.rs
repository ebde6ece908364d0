//! What is done often, or suffered at any moment, leaves the host as it was. Each test does as much as an ordinary run has the
//! time for, or as `cargo xtask soak` asks, and prints its figure.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tests::fixture::{busybox, entries, scratch};
use tests::registry::Registry;
use tests::run::{Outcome, Vm, program};
use tests::{amount, asked, hull, vm};

use crate::hostile::{MEMORY, mounts, own_memory};
use crate::leftovers::{files, processes, wait_for_end};
use crate::registry::copy;

mod full;
mod warm;

/// Descriptors and sockets that the host's own programs may open meanwhile, and MiB of memory that they may take.
const SLACK: [u64; 3] = [32, 32, 64];
/// What a process of hull may have beside its guest's memory, in MiB.
const MOST_MEMORY: u64 = 64;

/// A directory with a store that has the image, gone when dropped.
struct Home {
    place: PathBuf,
    /// How machines begin unless something else is said.
    start: &'static str,
}

impl Home {
    fn new(name: &str) -> Self {
        Self::at(scratch(name).unwrap(), "cold")
    }

    /// One that has templates as well, from which machines begin, as a user's do from the second time on.
    fn with_templates(name: &str) -> Self {
        let home = Self::at(scratch(name).unwrap(), "auto");
        home.hull(&["run", "-d", "--name=first", &busybox(), "sleep", "1000"])
            .exits(0);
        home.hull(&["rm", "-f", "first"]).exits(0);
        wait_for_end(&BTreeSet::new());
        home
    }

    fn at(place: PathBuf, start: &'static str) -> Self {
        let home = Self { place, start };
        home.vm(vm()).run("true").exits(0);
        wait_for_end(&BTreeSet::new());
        home
    }

    fn store(&self) -> PathBuf {
        self.place.join("store")
    }

    fn vm(&self, run: Vm) -> Vm {
        run.host_env("HULL_ROOT", self.store())
            .host_env("HULL_START", self.start)
    }

    /// One in nine machines boots all the same.
    fn mixed(&self, run: Vm, number: u64) -> Vm {
        let start = if number.is_multiple_of(9) {
            "cold"
        } else {
            self.start
        };
        self.vm(run).host_env("HULL_START", start)
    }

    fn hull(&self, words: &[&str]) -> Outcome {
        self.vm(hull(words.iter().copied())).finish()
    }

    /// The files of the store, and the mounts of the machine.
    fn left(&self) -> (BTreeSet<String>, String) {
        let mut files = files(&self.store());
        // What happened before the last MB of events: there after a thousand runs, and then in place of itself.
        files.retain(|file| !file.ends_with("containers/events.1"));
        (files, mounts())
    }

    /// All containers can be removed, a run succeeds, and then nothing is left that was not there before.
    fn recovers(&self, before: &(BTreeSet<String>, String), after: &str) {
        for container in self.hull(&["ps", "-aq"]).exits(0).out().lines() {
            self.hull(&["rm", "-f", container]).exits(0);
        }
        self.vm(vm()).run("echo fine").prints("fine\n");
        wait_for_end(&BTreeSet::new());
        assert_eq!(self.left(), *before, "{after}");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Numbers that follow from a seed, which is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seed = asked("SEED").unwrap_or(now.as_secs());
        println!("seed {seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// What a home has [left](Home::left), and of all of the machine: descriptors, sockets, MiB of memory that is taken.
type Host = ((BTreeSet<String>, String), [u64; 3]);

fn host(home: &Home) -> Host {
    let number = |file: &str, before: &str| -> u64 {
        let text = fs::read_to_string(file).unwrap();
        let (_, rest) = text.split_once(before).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let memory = |what: &str| number("/proc/meminfo", what) >> 10;
    let counts = [
        number("/proc/sys/fs/file-nr", ""),
        number("/proc/net/sockstat", "used"),
        memory("MemTotal:") - memory("MemAvailable:"),
    ];
    (home.left(), counts)
}

fn is_as_before(now: &Host, before: &Host, after: &str) {
    assert_eq!(now.0, before.0, "after {after}");
    for ((now, before), slack) in now.1.iter().zip(before.1).zip(SLACK) {
        assert!(
            *now <= before + slack,
            "{now} and not {before} after {after}"
        );
    }
}

/// Whether it is time to look around, and to say how far it has come: after each hundred and at the end.
fn is_told(number: u64, of: u64) -> bool {
    number.is_multiple_of(100) || number == of
}

/// Looks around after what was done since the start, and tells the figure.
fn look_around(home: &Home, before: &Host, done: &str, start: Instant) {
    wait_for_end(&BTreeSet::new());
    let now = host(home);
    is_as_before(&now, before, done);
    let [descriptors, sockets, memory] =
        std::array::from_fn(|at| now.1[at].saturating_sub(before.1[at]));
    println!(
        "{done} in {:.0} s: {descriptors} descriptors, {sockets} sockets and {memory} MiB more than before",
        start.elapsed().as_secs_f64()
    );
}

#[test]
fn alone_cycles_leave_the_host_as_it_was() {
    let home = Home::with_templates("cycles");
    let cycles = amount("CYCLES", 6);
    let before = host(&home);
    let start = Instant::now();
    for number in 1..=cycles {
        let name = format!("cycle{number}");
        let words = ["run", "-d", "--name", &name, &busybox(), "sleep", "60"];
        home.mixed(hull(words), number).finish().exits(0);
        home.hull(&["exec", &name, "true"]).exits(0);
        if number % 2 == 0 {
            home.hull(&["stop", "-t", "0", &name]).exits(0);
            home.hull(&["rm", &name]).exits(0);
        } else {
            home.hull(&["rm", "-f", &name]).exits(0);
        }
        if is_told(number, cycles) {
            let done = format!("{number} cycles of run, exec, stop and rm");
            look_around(&home, &before, &done, start);
        }
    }
}

#[test]
fn alone_kills_at_any_moment_are_survived() {
    let home = Home::with_templates("kills");
    let mut random = Random::new();
    let kills = amount("KILLS", 10);
    let before = home.left();
    let start = Instant::now();
    let mut killed = 0;
    while killed < kills {
        home.hull(&["create", "--name", "victim", &busybox(), "sleep", "1000"])
            .exits(0);
        let verbs = [
            &["start", "victim"][..],
            &["exec", "victim", "true"],
            &["restart", "-t", "0", "victim"],
        ];
        let last = usize::try_from(random.below(3)).unwrap();
        for words in verbs.iter().take(last) {
            let _ = home.hull(words);
        }
        let run = hull(verbs[last].iter().copied());
        let running = home.mixed(run, random.below(u64::MAX)).start();
        std::thread::sleep(Duration::from_millis(random.below(400)));
        let all: Vec<String> = processes().into_iter().collect();
        let one = usize::try_from(random.below(all.len() as u64)).unwrap();
        if let Some(process) = all.get(one).and_then(|id| Pid::from_raw(id.parse().ok()?)) {
            // One that has ended by itself meanwhile was no kill.
            killed += u64::from(kill_process(process, Signal::KILL).is_ok());
        }
        let _ = running.finish();
        home.hull(&["rm", "-f", "victim"]).exits(0);
        home.recovers(&before, &format!("after {killed} kills"));
        if is_told(killed, kills) {
            let seconds = start.elapsed().as_secs_f64();
            println!("{killed} kills at random moments, each followed by a run, in {seconds:.0} s");
        }
    }
}

/// What fails, and how: calls that hull has no way to do without, each with an error that the host may really give.
const FAULTS: [(&str, &str); 8] = [
    (
        "openat,openat2,socket,socketpair,memfd_create,eventfd2,pipe2,accept4,dup,epoll_create1",
        "EMFILE",
    ),
    (
        "write,writev,pwrite64,ftruncate,fallocate,mkdir,mkdirat,fsync,fdatasync,rename,renameat,renameat2",
        "ENOSPC",
    ),
    (
        "read,pread64,write,pwrite64,fsync,fdatasync,getdents64,fstat,newfstatat,statx,ftruncate,ioctl",
        "EIO",
    ),
    (
        "clone,clone3,fork,vfork,execve,ioctl,sendmsg,epoll_ctl,prctl",
        "ENOMEM",
    ),
    (
        "read,write,wait4,waitid,poll,ppoll,flock,recvmsg,sendmsg,connect,openat,ioctl,epoll_wait",
        "EINTR",
    ),
    (
        "unlink,unlinkat,rmdir,rename,renameat,renameat2,openat,flock,connect,kill,pidfd_open",
        "EACCES",
    ),
    ("connect,sendmsg,recvmsg,read,write", "ECONNRESET"),
    (
        "mount,unshare,setns,landlock_create_ruleset,prctl,seccomp,setresuid,chdir",
        "EPERM",
    ),
];

/// The kernel refuses one call of each of hull's processes and threads, at any place in their life.
#[test]
fn alone_a_call_that_fails_ends_in_words_or_not_at_all() {
    let home = Home::with_templates("faults");
    let registry = Registry::start().unwrap();
    let image = registry.name("entries:1");
    copy(&entries(), &image, &[]);
    let pulls = || {
        home.hull(&["pull", "-q", &image]).exits(0);
        home.hull(&["rmi", &image]).exits(0);
    };
    pulls();
    let mut random = Random::new();
    let (faults, mut told) = (amount("FAULTS", 10), 0);
    let before = home.left();
    let start = Instant::now();
    for number in 1..=faults {
        let (calls, error) = random.one_of(&FAULTS);
        // Half of the time early, where all processes come by.
        let most = *random.one_of(&[20, 200]);
        let fault = format!(
            "inject={calls}:error={error}:when={}",
            1 + random.below(most)
        );
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &fault];
        let run = ["run", "--rm", &busybox(), "true"].map(str::to_owned);
        home.hull(&["run", "-d", "--name", "victim", &busybox(), "sleep", "1000"])
            .exits(0);
        let words = match random.below(5) {
            0 => vec!["stop", "-t", "0", "victim"],
            1 => vec!["rm", "-f", "victim"],
            2 => vec!["exec", "victim", "true"],
            3 => vec!["pull", "-q", &image],
            _ => run.iter().map(String::as_str).collect(),
        };
        let run = hull(words.iter().copied()).under(strace);
        let outcome = home.mixed(run, random.below(u64::MAX)).finish();
        let place = format!("{fault} {words:?}: {outcome:?}");
        // Seen when what comes after it fails.
        println!("{place}");
        let code = outcome.status.code();
        assert!(
            code.is_some() && !outcome.err().contains("panicked at"),
            "{place}"
        );
        told += u64::from(!outcome.status.success());
        if words.contains(&"pull") {
            pulls();
        }
        home.recovers(&before, &place);
        if is_told(number, faults) {
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{number} calls that failed: {told} ended a command, each followed by a run, in {seconds:.0} s"
            );
        }
    }
}

/// What clients do to a container of some name, whatever it is doing.
const DEEDS: [&[&str]; 12] = [
    &["run", "-d", "--name", "NAME", "IMAGE", "sleep", "1000"],
    &["create", "--name", "NAME", "IMAGE", "sleep", "1000"],
    &["start", "NAME"],
    &["stop", "-t", "0", "NAME"],
    &["kill", "NAME"],
    &["rm", "-f", "NAME"],
    &["rm", "NAME"],
    &["exec", "NAME", "true"],
    &["rename", "NAME", "OTHER"],
    &["pause", "NAME"],
    &["unpause", "NAME"],
    &["inspect", "NAME"],
];

/// Clients that know nothing of each other: whatever comes between two of them is told, and no command hangs or breaks.
#[test]
fn alone_clients_that_do_everything_at_once_are_told_the_truth() {
    let home = Home::with_templates("clients");
    let before = home.left();
    let clients = amount("CLIENTS", 4);
    let names = clients / 2;
    let each = amount("DEEDS", 8);
    let mut random = Random::new();
    let seeds: Vec<u64> = (0..clients).map(|_| random.below(u64::MAX) | 1).collect();
    let home_of_all = &home;
    std::thread::scope(|scope| {
        for seed in seeds {
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..each {
                    let deed = random.one_of(&DEEDS);
                    let (name, other) = (random.below(names), random.below(names));
                    let words: Vec<String> = deed
                        .iter()
                        .map(|word| match *word {
                            "NAME" => format!("name{name}"),
                            "OTHER" => format!("name{other}"),
                            "IMAGE" => busybox(),
                            word => word.to_owned(),
                        })
                        .collect();
                    let outcome = home_of_all.vm(hull(words)).finish();
                    let code = outcome.status.code();
                    assert!(
                        matches!(code, Some(0 | 1 | 125 | 137))
                            && !outcome.err().contains("panicked at"),
                        "{outcome:?}"
                    );
                    // An exec ends with its container; everything else that fails has words for it.
                    assert!(
                        matches!(code, Some(0 | 137)) || outcome.err().contains("error:"),
                        "{outcome:?}"
                    );
                    let listed = home_of_all.hull(&["ps", "-a", "--format", "{{.Names}}"]);
                    let mut listed: Vec<String> =
                        listed.exits(0).out().lines().map(Into::into).collect();
                    let all = listed.len();
                    listed.sort();
                    listed.dedup();
                    assert_eq!(listed.len(), all, "a name twice");
                }
            });
        }
    });
    let deeds = format!("{clients} clients did {each} deeds each to {names} names");
    home.recovers(&before, &deeds);
    println!("{deeds}");
}

/// A regular file of a store that is not empty, and a place in it.
fn anywhere(store: &Path, random: &mut Random) -> (PathBuf, u64) {
    let all = files(store);
    let all: Vec<PathBuf> = all.iter().map(PathBuf::from).collect();
    let all: Vec<&PathBuf> = all
        .iter()
        .filter(|path| {
            path.metadata()
                .is_ok_and(|data| data.is_file() && data.len() > 0)
        })
        .collect();
    let path = *random.one_of(&all);
    let length = path.metadata().unwrap().len();
    (path.clone(), random.below(length))
}

#[test]
fn a_flipped_bit_anywhere_in_the_store_ends_in_words_or_not_at_all() {
    let home = Home::with_templates("flips");
    home.hull(&[
        "create",
        "--storage=16m",
        "--name",
        "made",
        &busybox(),
        "true",
    ])
    .exits(0);
    let whole = home.place.join("whole");
    fs::rename(home.store(), &whole).unwrap();
    let mut random = Random::new();
    let (flips, mut told) = (amount("FLIPS", 6), 0);
    let start = Instant::now();
    for number in 1..=flips {
        let copy = Command::new("cp")
            .arg("-a")
            .arg(&whole)
            .arg(home.store())
            .status();
        assert!(copy.unwrap().success());
        let (path, place) = anywhere(&home.store(), &mut random);
        // In place: a container's disk is long and full of holes.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path);
        let (file, mut byte) = (file.unwrap(), [0]);
        file.read_exact_at(&mut byte, place).unwrap();
        byte[0] ^= 1 << random.below(8);
        file.write_all_at(&byte, place).unwrap();
        let runs = [
            home.vm(vm()).run("echo fine"),
            home.hull(&["start", "made"]),
            home.hull(&["ps", "-a"]),
            home.hull(&["images"]),
            home.hull(&["rm", "-f", "made"]),
        ];
        for outcome in &runs {
            let place = format!("bit of byte {place} of {}: {outcome:?}", path.display());
            let code = outcome.status.code();
            assert!(
                code.is_some() && !outcome.err().contains("panicked at"),
                "{place}"
            );
            // Of the launcher's own failures each has words; a broken program in the guest says nothing on its own.
            assert!(
                !matches!(code, Some(1 | 125)) || outcome.err().contains("error:"),
                "{place}"
            );
        }
        told += u64::from(runs.iter().any(|outcome| !outcome.status.success()));
        fs::remove_dir_all(home.store()).unwrap();
        if is_told(number, flips) {
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{number} bits flipped in the store, in {seconds:.0} s: {told} noticed, the others changed nothing that was asked for"
            );
        }
    }
}

#[test]
fn alone_a_stalled_reader_costs_no_memory() {
    let home = Home::new("stalled");
    let mebibytes = amount("MEBIBYTES", 48);
    let script = format!("dd if=/dev/zero bs=1M count={mebibytes} 2>/dev/null");
    let memory = format!("--memory={MEMORY}m");
    let mut child = Command::new(program())
        .args([
            "run",
            "--rm",
            &memory,
            "--log-opt=max-size=64k",
            &busybox(),
            "sh",
            "-c",
            &script,
        ])
        .env("HULL_START", "cold")
        .env("HULL_ROOT", home.store())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let most = || {
        processes()
            .iter()
            .map(|id| own_memory(id, MEMORY))
            .max()
            .unwrap_or(0)
    };
    let mut stdout = child.stdout.take().unwrap();
    let (mut total, mut own) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    let mut next = 0;
    // Stalls at the beginning, and after each quarter.
    loop {
        if total >= next {
            std::thread::sleep(Duration::from_secs(2));
            own = own.max(most());
            next += mebibytes * (1 << 20) / 4;
        }
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            count => total += count as u64,
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(total, mebibytes << 20);
    assert!(own > 0 && own < MOST_MEMORY, "{own} MiB");
    println!(
        "{mebibytes} MiB of output against a reader that stalls: at most {own} MiB in one process of hull"
    );
}

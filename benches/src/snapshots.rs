//! Snapshots of containers that run, and what goes on from them: how long it takes, and what it costs.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::bench::Target;

use crate::exec::succeed;
use crate::measure::{self, settle};
use crate::memory;
use crate::record::Record;
use crate::site::{PLAIN, Site};

/// What is saved: without a disk, and known by this name, as its snapshot is.
const SOURCE: [&str; 5] = ["--detach", "--storage", "0", "--name", "bench-saved"];

/// An interpreter with libraries, which says something whenever it comes to.
const PYTHON: [&str; 3] = [
    "/usr/bin/python3",
    "-uc",
    "import http.server, json, time
while True: print(json.dumps(1)); time.sleep(0.0005)",
];

/// The same with 64 MiB in its memory, which says, whenever it is told to, for how long it has stood still at most since then.
const WATCH: [&str; 3] = [
    "/usr/bin/python3",
    "-uc",
    "import signal, time
kept = bytearray(b'x') * (64 << 20)
longest = last = 0
def tell(*_):
    global longest, last
    print(longest)
    longest, last = 0, time.monotonic_ns()
last = time.monotonic_ns()
signal.signal(signal.SIGUSR1, tell)
while True:
    now = time.monotonic_ns()
    longest, last = max(longest, now - last), now",
];

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let shell = ["/bin/busybox", "sh", "-c", "sleep 6000; :"];
    succeed(&mut site.run(&[&PLAIN[..], &SOURCE].concat(), &shell))?;
    let name = "`snapshot create` of a shell container";
    measure::several(record, name, "hull", None, 2, || {
        let took = measure::run(&mut site.hull(&["snapshot", "create", "bench-saved", "bench"]))?;
        succeed(&mut site.hull(&["snapshot", "rm", "bench"]))?;
        Ok(took.milliseconds)
    })?;
    save(site)?;
    let copy = ["run", "--detach", "--from", "bench", "--name", "bench-copy"];
    succeed(&mut site.hull(&copy))?;
    std::thread::sleep(memory::SETTLED);
    let written = vec![written(site, "bench-copy")?];
    let name = "memory that an idle copy of a shell container has written";
    record.add(name, "hull", "MiB", written, Some(Target::AtMost(2.0)));
    succeed(&mut site.hull(&["rm", "--force", "bench-copy"]))?;
    succeed(&mut site.hull(&["snapshot", "rm", "bench"]))?;

    let mut python = site.hull(&["run", "--rm", "--pull", "never"]);
    python.args([&PLAIN[..], &SOURCE].concat());
    succeed(python.arg("python").args(PYTHON))?;
    // Its libraries are there.
    std::thread::sleep(memory::SETTLED);
    save(site)?;
    let name = "a warmed python3, from `run --from` to what it says first";
    measure::several(record, name, "hull", Some(Target::AtMost(8.0)), 4, || {
        first_word(site.hull(&["run", "--rm", "--from", "bench"]))
    })?;
    succeed(&mut site.hull(&["snapshot", "rm", "bench"]))?;
    pauses(site, record)
}

/// How long a container stands still for a snapshot.
fn pauses(site: &Site, record: &mut Record) -> Result<()> {
    let mut python = site.hull(&["run", "--rm", "--pull", "never"]);
    python.args([&PLAIN[..], &SOURCE].concat());
    succeed(python.arg("python").args(WATCH))?;
    std::thread::sleep(memory::SETTLED);
    for how in [&[][..], &["--live"]] {
        let create = [&["snapshot", "create"], how, &["bench-saved", "bench"]].concat();
        let verb = [&["snapshot create"], how].concat().join(" ");
        let name = format!("longest pause of a container with 64 MiB in its memory, `{verb}`");
        measure::several(record, &name, "hull", None, 2, || {
            longest(site)?;
            succeed(&mut site.hull(&create))?;
            let paused = longest(site)?;
            succeed(&mut site.hull(&["snapshot", "rm", "bench"]))?;
            Ok(paused)
        })?;
    }
    succeed(&mut site.hull(&["rm", "--force", "bench-saved"]))
}

/// Milliseconds that a container has stood still at most, since it was last asked.
fn longest(site: &Site) -> Result<f64> {
    let said = || measure::run(&mut site.hull(&["logs", "bench-saved"])).map(|run| run.stdout);
    let before = said()?.lines().count();
    succeed(&mut site.hull(&["kill", "--signal", "USR1", "bench-saved"]))?;
    loop {
        let said = said()?;
        if said.lines().count() > before {
            let nanoseconds: f64 = said.lines().last().unwrap_or_default().parse()?;
            return Ok(nanoseconds / 1e6);
        }
    }
}

/// Makes the snapshot, after which nobody needs its source.
fn save(site: &Site) -> Result<()> {
    succeed(&mut site.hull(&["snapshot", "create", "bench-saved", "bench"]))?;
    succeed(&mut site.hull(&["rm", "--force", "bench-saved"]))
}

/// MiB that a container's processes have for themselves: the VMM's and the supervisor's own, and what the guest has changed of the
/// snapshot's. (Of a file in a tmpfs, a page that only one process has mapped counts as private too.)
fn written(site: &Site, container: &str) -> Result<f64> {
    let format = "--format={{.State.Pid}} {{.State.SupervisorPid}}";
    let told = measure::run(&mut site.hull(&["inspect", format, container]))?.stdout;
    let processes: Result<Vec<u32>, _> = told.split_whitespace().map(str::parse).collect();
    let [written] = memory::of_all(&processes?, [&["Anonymous:"]])?;
    Ok(written)
}

/// Milliseconds until a command has said something; then it is ended.
fn first_word(mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    settle();
    let start = Instant::now();
    let mut launcher = command.spawn()?;
    let mut output = launcher.stdout.take().context("It was asked for")?;
    let said = output.read(&mut [0])?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    memory::end(&mut launcher)?;
    ensure!(said == 1, "{command:?} said nothing");
    Ok(took)
}

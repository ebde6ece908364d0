//! What a container costs its host in memory while its command waits: all processes that it takes, the launcher included.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::counts;
use crate::record::Record;
use crate::site::{Image, Site};

/// Until all has been started, and what was needed for that alone has been given back.
pub(crate) const SETTLED: Duration = Duration::from_secs(6);

const SHELL: &[&str] = &["/bin/busybox", "sh", "-c", "echo; sleep 600; :"];
const PYTHON: &[&str] = &[
    "/usr/bin/python3",
    "-c",
    "import time, json, http.server; print(flush=True); time.sleep(600)",
];
const REDIS: &[&str] = &["/usr/bin/redis-server", "--save", "", "--port", "6379"];

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    for (what, image, words) in [
        ("a shell", Image::Busybox, SHELL),
        ("python3", Image::Python, PYTHON),
        ("redis", Image::Servers, REDIS),
    ] {
        let mut all = Vec::new();
        for runtime in site.runtimes(&["crun", "runc"])? {
            let mut memory = Vec::new();
            let counts = counts::of(record.clock(), || {
                memory.push(of(site.image(runtime, image, words)?)?);
                Ok(())
            });
            let counts = counts.with_context(|| format!("{what} of {runtime}"))?;
            all.push((runtime, memory, counts));
        }
        for (kind, of) in [("PSS", 0), ("private", 1)] {
            for (runtime, memory, counts) in &all {
                let name = format!("{kind} memory of {what} that waits");
                let samples = memory.iter().map(|memory| memory[of]).collect();
                record.add(&name, runtime, "MiB", samples, None).counts = counts.clone();
            }
        }
    }
    Ok(())
}

/// [`tree`] of a container, after its command has said something.
fn of(mut command: Command) -> Result<[f64; 2]> {
    let mut launcher = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = launcher.stdout.take().context("It has an output")?;
    let said = output.read_exact(&mut [0]);
    std::thread::sleep(SETTLED);
    let memory = tree(launcher.id());
    end(&mut launcher)?;
    said.context("Its command says nothing")?;
    memory
}

/// Ends a container as its user would, and then whoever is left of it: where its process 1 does not listen to that, and where its
/// launcher ends without it.
pub(crate) fn end(launcher: &mut Child) -> Result<()> {
    let started = descendants(launcher.id())?;
    for (signal, who) in [("-TERM", vec![launcher.id()]), ("-KILL", started)] {
        let who = who.iter().map(u32::to_string);
        // Who has gone meanwhile cannot be told.
        let _ = Command::new("kill").arg(signal).args(who).output()?;
        for _ in 0..40 {
            if launcher.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let ended = launcher.try_wait()?;
    ended.context("A container does not end").map(drop)
}

/// All that a process has started, and what that has started.
fn descendants(process: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for child in counts::children(process)? {
        all.push(child);
        all.extend(descendants(child)?);
    }
    Ok(all)
}

/// MiB of a process and all that it has started: its share of what processes have together, and what it has alone.
fn tree(process: u32) -> Result<[f64; 2]> {
    let all = [vec![process], descendants(process)?].concat();
    of_all(&all, [&["Pss:"], &["Private_Clean:", "Private_Dirty:"]])
}

/// MiB of each of these sets of kinds, as proc(5) calls them, that processes have.
pub(crate) fn of_all<const N: usize>(processes: &[u32], sets: [&[&str]; N]) -> Result<[f64; N]> {
    let mut all = [0.0; N];
    for process in processes {
        let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
            .context("Only root can look at all processes of a container")?;
        for line in rollup.lines() {
            let mut words = line.split_whitespace();
            let kind = words.next().unwrap_or_default();
            let kibibytes: f64 = words
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0.0);
            for (sum, _) in all
                .iter_mut()
                .zip(sets)
                .filter(|(_, set)| set.contains(&kind))
            {
                *sum += kibibytes / 1024.0;
            }
        }
    }
    Ok(all)
}

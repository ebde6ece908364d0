//! What is counted while something runs: its processes' time, exits of its guests, system calls and pages. In the lab these are the
//! same on any machine. The kernel counts, in a trace buffer of our own (Documentation/trace/histogram.rst); who runs
//! nothing but this is not disturbed by others. Who is not root, or has a kernel without histograms, gets what is the processes' own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::process::{WaitOptions, set_child_subreaper, wait};

use crate::record::Clock;

/// Where the kernel traces.
const TRACING: &str = "/sys/kernel/tracing";
/// Time in a guest, as an event that is made of two: entry and exit.
const GUEST_TIME: &str = "bench_guest_time";

/// Counts by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What is counted while this runs: once for the processes' own, and again for what the kernel only counts by spending
/// time of its own. Waits for the end of everything that it has started.
pub(crate) fn of(clock: Clock, mut run: impl FnMut() -> Result<()>) -> Result<Counts> {
    let mut counts = of_processes(clock, &mut run)?;
    let Some(trace) = Trace::begin()? else {
        return Ok(counts);
    };
    to_the_end(&mut run)?;
    counts.extend(trace.counts()?);
    if let Some(guest) = counts.remove(GUEST_TIME).filter(|guest| *guest > 0) {
        let unit = clock.of_nanoseconds();
        let all = counts.get(&format!("all {unit}")).copied();
        counts.insert(format!("guest {unit}"), guest);
        let host = all.unwrap_or_default().saturating_sub(guest);
        counts.insert(format!("host {unit}"), host);
    }
    Ok(counts)
}

/// The part of it that needs no second run: the time of all processes, their page faults, and bytes read and written.
pub(crate) fn of_processes(clock: Clock, mut run: impl FnMut() -> Result<()>) -> Result<Counts> {
    let (before, [read, written]) = (getrusage(UsageWho::RUSAGE_CHILDREN)?, bytes()?);
    to_the_end(&mut run)?;
    let (after, [read_after, written_after]) = (getrusage(UsageWho::RUSAGE_CHILDREN)?, bytes()?);
    let microseconds =
        (after.user_time() + after.system_time() - before.user_time() - before.system_time())
            .num_microseconds();
    let faults = after.minor_page_faults() - before.minor_page_faults();
    // A nanosecond of the lab's clock is an instruction.
    let all = format!("all {}", clock.of_nanoseconds());
    Ok(Counts::from([
        (all, u64::try_from(microseconds)? * 1000),
        ("page faults of the host".into(), u64::try_from(faults)?),
        ("bytes read".into(), read_after - read),
        ("bytes written".into(), written_after - written),
    ]))
}

/// Bytes that system calls of ours have read and written so far, and those of all that we have started and that has ended.
fn bytes() -> Result<[u64; 2]> {
    let io = fs::read_to_string("/proc/self/io").context("The kernel counts no bytes")?;
    let of = |name: &str| {
        let count = io.lines().find_map(|line| line.strip_prefix(name))?;
        count.trim().parse().ok()
    };
    let counts = of("rchar:").zip(of("wchar:"));
    let (read, written) = counts.context("/proc/self/io does not have its form")?;
    Ok([read, written])
}

/// Runs until all that it has started has ended.
pub(crate) fn to_the_end(run: &mut impl FnMut() -> Result<()>) -> Result<()> {
    let own = std::process::id();
    let others = children(own)?;
    // Whoever loses its parent becomes a child of ours, and is counted when it has ended.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let ran = run();
    while !children(own)?.is_subset(&others) {
        wait(WaitOptions::empty())?;
    }
    set_child_subreaper(None)?;
    ran
}

/// The processes whose end is a process's to wait for.
pub(crate) fn children(process: u32) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
        let children = fs::read_to_string(thread.path().join("children"))?;
        for child in children.split_whitespace() {
            all.insert(child.parse()?);
        }
    }
    Ok(all)
}

/// A trace buffer in which the kernel counts.
struct Trace {
    instance: PathBuf,
    /// What was asked for, and where: it refers to each other, and goes in the opposite order.
    triggers: Vec<(PathBuf, String)>,
}

impl Trace {
    /// Begins to count; `None` for those whom the kernel does not let.
    fn begin() -> Result<Option<Self>> {
        if !Path::new(TRACING).join("events").exists() {
            // Mounted on demand on most hosts.
            let mut mount = Command::new("mount");
            mount.args(["-t", "tracefs", "tracefs", TRACING]);
            let _ = mount.output();
        }
        let instance = Path::new(TRACING).join(format!("instances/bench-{}", std::process::id()));
        if fs::create_dir(&instance).is_err() {
            return Ok(None);
        }
        let mut trace = Self {
            instance,
            triggers: Vec::new(),
        };
        let counted = trace.instance.join("events/raw_syscalls/sys_enter/hist");
        if !counted.exists() {
            // A kernel that traces, and makes no histograms.
            return Ok(None);
        }
        let synthetic = Path::new(TRACING).join("synthetic_events");
        let _ = tell(&synthetic, &format!("{GUEST_TIME} u64 ns"));
        let us = std::process::id();
        trace.count(
            "raw_syscalls/sys_enter",
            &format!("hist:keys=id if common_pid != {us}"),
        )?;
        trace.count("kmem/mm_page_alloc", "hist:keys=order")?;
        trace.count("kvm/kvm_exit", "hist:keys=exit_reason")?;
        trace.count("kvm/kvm_userspace_exit", "hist:keys=reason")?;
        trace.count(
            "kvm/kvm_entry",
            "hist:keys=common_pid:begin=common_timestamp",
        )?;
        let until = format!(
            "hist:keys=common_pid:ns=common_timestamp-$begin:onmatch(kvm.kvm_entry).{GUEST_TIME}($ns)"
        );
        trace.count("kvm/kvm_exit", &until)?;
        trace.count(
            &format!("synthetic/{GUEST_TIME}"),
            "hist:keys=ns:size=65536",
        )?;
        Ok(Some(trace))
    }

    fn count(&mut self, event: &str, how: &str) -> Result<()> {
        let file = self.instance.join("events").join(event).join("trigger");
        // A kernel without this event has nothing of it to count.
        match tell(&file, how) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("{} does not take {how}", file.display()))?,
        }
        self.triggers.push((file, how.to_owned()));
        Ok(())
    }

    /// What has been counted, by key; the first key that is a field of this name.
    fn of(&self, event: &str, key: &str) -> Result<Vec<(u64, u64)>> {
        let file = self.instance.join("events").join(event).join("hist");
        // { exit_reason:   1024 } hitcount:    767
        let start = format!("{{ {key}:");
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
        let pair = |line: &str| {
            let mut numbers = line
                .split([' ', '}', ':'])
                .filter_map(|word| word.parse().ok());
            let pair = (numbers.next()?, numbers.next()?);
            Some(pair)
        };
        lines
            .map(|line| pair(line).with_context(|| format!("The kernel counts {line:?}")))
            .collect()
    }

    /// All counts.
    fn counts(self) -> Result<Counts> {
        let sum = |pairs: &[(u64, u64)]| pairs.iter().map(|pair| pair.1).sum::<u64>();
        let mut counts = Counts::new();
        let calls = self.of("raw_syscalls/sys_enter", "id")?;
        counts.insert("system calls of the host".into(), sum(&calls));
        let pages = self.of("kmem/mm_page_alloc", "order")?;
        let pages = pages.iter().map(|(order, count)| count << order).sum();
        counts.insert("pages of the host taken".into(), pages);
        // The event's own format has Intel's names in its first list and AMD's in its second.
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let list = if processors.contains(" svm") { 2 } else { 1 };
        let exits = names(&format("kvm_exit"), list, 1);
        for (reason, count) in self.of("kvm/kvm_exit", "exit_reason")? {
            let name = exits.get(&reason).cloned();
            let name = name.unwrap_or_else(|| format!("reason {reason:#x}"));
            *counts.entry(format!("exits: {name}")).or_default() += count;
        }
        let left = self.of("kvm/kvm_userspace_exit", "reason")?;
        for (reason, count) in &left {
            let name = names(&format("kvm_userspace_exit"), 1, 3)
                .get(reason)
                .cloned();
            let name = name.unwrap_or_else(|| format!("reason {reason}"));
            counts.insert(format!("exits to user space: {name}"), *count);
        }
        // Between the two events lies what the host does to enter and to leave; some guest leaves at once, and tells how much
        // that is.
        let times = self.of(&format!("synthetic/{GUEST_TIME}"), "ns")?;
        let least = times.iter().map(|(time, _)| *time).min().unwrap_or(0);
        let guest = times
            .iter()
            .map(|(time, count)| (time - least) * count)
            .sum();
        counts.insert(GUEST_TIME.into(), guest);
        Ok(counts)
    }
}

/// Tells the kernel one thing more: who opens such a file to write it anew takes back all that was said before.
fn tell(file: &Path, what: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(file)?;
    file.write_all(what.as_bytes())
}

impl Drop for Trace {
    fn drop(&mut self) {
        for (file, how) in self.triggers.iter().rev() {
            let _ = tell(file, &format!("!{how}"));
        }
        let _ = fs::remove_dir(&self.instance);
        let synthetic = Path::new(TRACING).join("synthetic_events");
        let _ = tell(&synthetic, &format!("!{GUEST_TIME} u64 ns"));
    }
}

/// How the kernel would print one of KVM's events.
fn format(event: &str) -> String {
    let file = Path::new(TRACING).join("events/kvm").join(event);
    fs::read_to_string(file.join("format")).unwrap_or_default()
}

/// The names in the n-th list of a format, each the text behind so many quotes: `{ 0x040 + 14, "PF excp" }`, `{ 2, "KVM_EXIT_" "IO" }`.
fn names(format: &str, list: usize, quotes: usize) -> BTreeMap<u64, String> {
    let names = format
        .split("__print_symbolic")
        .nth(list)
        .unwrap_or_default();
    let pair = |entry: &str| {
        let (number, _) = entry.split_once(", \"")?;
        let parts = number.trim_start_matches([' ', '(', '{']).split(" + ");
        let parts = parts.map(|part| match part.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => part.parse().ok(),
        });
        let number = parts.sum::<Option<u64>>()?;
        Some((number, entry.split('"').nth(quotes)?.to_owned()))
    };
    names.split("{ ").filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn only_what_was_started_is_waited_for() {
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let start = Instant::now();
        to_the_end(&mut || {
            // Its own child outlives it.
            Command::new("sh").args(["-c", "sleep 1 &"]).status()?;
            Ok(())
        })
        .unwrap();
        assert!((1..900).contains(&start.elapsed().as_secs()));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

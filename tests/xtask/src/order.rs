//! `cargo xtask order`: finds out which functions a start runs, and has the linker put them together.

mod sections;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::{apt, build, demo, lab, progress, workspace};

use self::sections::Use;

/// What can be typed after `cargo xtask order`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Launcher, supervisor and VMM.
const PROCESSES: usize = 3;
/// Where an ELF header has the address of the first instruction (e_entry).
const ENTRY: u64 = 24;
const PAGE: u64 = 4096;
/// Seconds that the lab may take.
const LIMIT: u64 = 600;

/// A run from a template, and before it one that makes the template. Without randomized addresses (and only what is traced is without
/// them) a program is where the lab looks, and all its processes have it in one place.
const START: &str = r#"
    run() { "$@" run --rm --start warm "$image" /bin/busybox true; }
    hull=$0 image=$1 HULL_ROOT=$(mktemp -d)
    export HULL_ROOT
    run "$hull" && run setarch --addr-no-randomize "$hull"
"#;

/// Watches a start in the lab and writes the order.
pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    apt::need(&demo::packages())?;
    let hull = build::ensure()?;
    ::tests::fixture::make()?;
    let uses = progress::step("Watching a start in the lab", || watch(&hull))?;
    let map = std::fs::read_to_string(build::map())
        .context("The linker's map is not there: remove target/static, and hull is linked again")?;
    let script = sections::script(&map, &uses)?;
    std::fs::write(workspace::root().join(build::ORDER), script)?;
    progress::note(&format!(
        "{} is new; `cargo xtask build` links by it.",
        build::ORDER
    ));
    Ok(ExitCode::SUCCESS)
}

/// Where each process of a start has been, in the order in which it came there.
fn watch(hull: &Path) -> Result<Vec<Use>> {
    let mut entry = [0; 8];
    File::open(hull)?.read_exact_at(&mut entry, ENTRY)?;
    let place = tempfile::tempdir()?;
    let trace = place.path().join("trace");
    rustix::fs::mknodat(CWD, &trace, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let reader = thread::spawn({
        let trace = trace.clone();
        move || steps(BufReader::new(File::open(trace)?))
    });
    let command = ["sh", "-c", START].map(Into::into).to_vec();
    let command = [
        command,
        vec![hull.into(), ::tests::fixture::busybox().into()],
    ]
    .concat();
    let lab = lab::Args::new(command).icount().timeout(LIMIT);
    let code = lab::exit_code(lab.trace(trace.clone()))?;
    // A lab that never began to write would be waited for: so it ends here. Where it did, nobody reads any more.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits())?;
    let _ = OpenOptions::new()
        .write(true)
        .custom_flags(nonblocking)
        .open(&trace);
    let steps = match reader.join() {
        Ok(steps) => steps?,
        Err(_) => bail!("The lab's trace cannot be read"),
    };
    ensure!(code == 0, "The start ended with exit code {code}");
    let (first, _) = *steps.first().context("Nothing was traced")?;
    let base = first.wrapping_sub(u64::from_le_bytes(entry));
    ensure!(
        base.is_multiple_of(PAGE),
        "What was traced did not begin with hull"
    );
    let mut spaces = Vec::new();
    let mut used = |(address, space): (u64, u64)| {
        let known = spaces.iter().position(|other| *other == space);
        let process = known.unwrap_or_else(|| {
            spaces.push(space);
            spaces.len() - 1
        });
        let address = address.wrapping_sub(base);
        Use { address, process }
    };
    let uses = steps.into_iter().map(&mut used).collect();
    ensure!(
        spaces.len() == PROCESSES,
        "A start has {PROCESSES} processes, not {}",
        spaces.len()
    );
    Ok(uses)
}

/// Which addresses were executed in which address space (CR3), each once, out of what QEMU's `-d cpu` prints.
fn steps(trace: impl BufRead) -> Result<Vec<(u64, u64)>> {
    let number = |text: &str| -> Result<u64> {
        let digits = text.split_ascii_whitespace().next().unwrap_or_default();
        Ok(u64::from_str_radix(digits, 16)?)
    };
    let (mut found, mut seen, mut address) = (Vec::new(), HashSet::new(), 0);
    for line in trace.lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("RIP=") {
            address = number(rest)?;
        } else if let Some((_, rest)) = line.split_once("CR3=") {
            let step = (address, number(rest)?);
            if seen.insert(step) {
                found.push(step);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

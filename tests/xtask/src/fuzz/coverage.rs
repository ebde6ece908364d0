//! How much of each parser's file the fuzz targets reach, line by line. Knows how to ask the compiler for it, and which files
//! parse what others wrote; nothing of what makes an input good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{apt, progress, workspace};

/// What the targets attack, below `vmm/`: files, and directories of which all counts but what is for tests.
const PARSERS: &[&str] = &[
    "image/src/credentials.rs",
    "image/src/digest.rs",
    "image/src/files.rs",
    "image/src/layer.rs",
    "image/src/local.rs",
    "image/src/manifest.rs",
    "image/src/reference",
    "image/src/reference.rs",
    "image/src/registry/challenge.rs",
    "image/src/registry/document.rs",
    "image/src/registry/hosts.rs",
    "image/src/registry/text.rs",
    "image/src/registry/url.rs",
    "image/src/stream.rs",
    "image/src/tar.rs",
    "image/src/tar/header.rs",
    "image/src/tar/input.rs",
    "image/src/tar/pax.rs",
    "image/src/tar/sparse.rs",
    "image/src/tree",
    "image/src/tree.rs",
    "image/src/trust/cosign.rs",
    "image/src/trust/identity.rs",
    "image/src/trust/key.rs",
    "image/src/trust/policy.rs",
    "network/src/dns.rs",
    "network/src/stack",
    "network/src/stack.rs",
    "network/src/tcp",
    "network/src/tcp.rs",
    "network/src/wire.rs",
    "protocol/src/bytes.rs",
    "protocol/src/frame.rs",
    "virtio/src",
];

/// What is in those directories to attack or to test them.
const OURS: &[&str] = &[
    "network/src/stack/fuzz",
    "network/src/stack/fuzz.rs",
    "virtio/src/fuzz",
    "virtio/src/fuzz.rs",
    "virtio/src/guest.rs",
];

/// For each file its lines that have code, and whether any target ran them.
type Lines = BTreeMap<PathBuf, BTreeMap<u32, bool>>;

/// Replays each target's inputs, kept and newly found, and prints a line for each file of a parser.
pub(super) fn print(targets: &[String]) -> Result<()> {
    let tools = tools()?;
    progress::step("Building the fuzz targets again, to count lines", || {
        super::build(&directory(), "-Cinstrument-coverage")
    })?;
    let mut lines = Lines::new();
    for target in targets {
        let report = progress::step(&format!("Replaying {target}"), || replay(target, &tools))?;
        read(&report, &mut lines).with_context(|| format!("llvm-cov's report on {target}"))?;
    }
    let root = workspace::root().join("vmm");
    let rows = rows(&lines, &root)?;
    println!(
        "{:<40} {:>6} {:>6} {:>7}",
        "file", "lines", "run", "percent"
    );
    let mut sum = (0, 0);
    for (name, all, run) in &rows {
        println!("{}", row(name, *all, *run));
        sum = (sum.0 + all, sum.1 + run);
    }
    println!("{}", row("all", sum.0, sum.1));
    Ok(())
}

fn row(name: &str, all: usize, run: usize) -> String {
    let permille = run * 1000 / all.max(1);
    let (percent, tenth) = (permille / 10, permille % 10);
    format!("{name:<40} {all:>6} {run:>6} {percent:>5}.{tenth}")
}

fn directory() -> PathBuf {
    super::directory().join("coverage")
}

/// The directory of LLVM's tools of the compiler's version: no other reads what it writes.
fn tools() -> Result<PathBuf> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.context("rustc does not run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|version| version.split('.').next())
        .context("rustc does not say which LLVM it has")?;
    let package = format!("llvm-{version}");
    let tools = Path::new("/usr/lib").join(&package).join("bin");
    let program = tools.join("llvm-cov").to_string_lossy().into_owned();
    apt::need(&[(&program, &package)])?;
    Ok(tools)
}

/// Runs a target once over all its inputs, and returns what llvm-cov says of it, as lcov does.
fn replay(target: &str, tools: &Path) -> Result<String> {
    let directory = directory();
    let program = super::program(&directory, target);
    let [raw, profile] =
        ["profraw", "profdata"].map(|end| directory.join(target).with_extension(end));
    let corpora = [
        workspace::root().join("tests/fuzz/corpus").join(target),
        super::directory().join("corpus").join(target),
    ];
    output(
        Command::new(&program)
            .args(["-runs=0", "-max_len=65536", "-timeout=60"])
            .args(corpora.iter().filter(|corpus| corpus.exists()))
            .env("LLVM_PROFILE_FILE", &raw),
    )?;
    output(
        Command::new(tools.join("llvm-profdata"))
            .args(["merge", "-sparse", "-o"])
            .args([&profile, &raw]),
    )?;
    let mut instrumented = std::ffi::OsString::from("-instr-profile=");
    instrumented.push(&profile);
    output(
        Command::new(tools.join("llvm-cov"))
            .args(["export", "-format=lcov"])
            .arg(instrumented)
            .arg(&program),
    )
}

/// What a program prints; its messages are the error when it fails.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{name} does not run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}):\n{said}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} prints no UTF-8"))
}

/// Adds a report: "SF:" and a file, then "DA:LINE,RUNS" for each line.
fn read(report: &str, lines: &mut Lines) -> Result<()> {
    let mut file = None;
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("SF:") {
            file = Some(lines.entry(PathBuf::from(name)).or_default());
        } else if let Some(data) = line.strip_prefix("DA:") {
            let mut numbers = data.split(',');
            let mut number = || numbers.next()?.parse::<u64>().ok();
            let (Some(place), Some(runs)) = (number(), number()) else {
                bail!("{line} makes no sense");
            };
            let file = file.as_mut().context("A line comes before its file")?;
            *file.entry(u32::try_from(place)?).or_default() |= runs > 0;
        }
    }
    Ok(())
}

/// Name, lines and lines run of each file that is a parser's.
fn rows(lines: &Lines, root: &Path) -> Result<Vec<(String, usize, usize)>> {
    let mut rows = Vec::new();
    let mut seen = vec![false; PARSERS.len()];
    for (path, lines) in lines {
        let Ok(name) = path.strip_prefix(root) else {
            continue;
        };
        if OURS.iter().any(|ours| name.starts_with(ours)) {
            continue;
        }
        let mut wanted = false;
        for (parser, seen) in PARSERS.iter().zip(&mut seen) {
            if name.starts_with(parser) {
                (*seen, wanted) = (true, true);
            }
        }
        if wanted {
            let run = lines.values().filter(|run| **run).count();
            rows.push((name.display().to_string(), lines.len(), run));
        }
    }
    if let Some((unseen, _)) = PARSERS.iter().zip(&seen).find(|(_, seen)| !**seen) {
        bail!("No target has anything of vmm/{unseen}: has it another name now?");
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;

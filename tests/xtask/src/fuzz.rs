//! `cargo xtask fuzz`: throws what nobody would write at every parser and device model. Knows how a target is built and
//! watched; what it does lies beside the code that it attacks.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::build::cargo;
use crate::{progress, workspace};

mod coverage;

/// What can be typed after `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, default_value = "1", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// The same in seconds
    #[arg(long, conflicts_with = "minutes", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// The targets; all of them if none is named
    targets: Vec<String>,
}

/// What libFuzzer wants of the compiler: counters at every edge and every comparison.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions --cfg fuzzing";

/// The address sanitizer. Flags with -Z are not stable, which is why the compiler is told to allow them.
const SANITIZER: &str = "-Zsanitizer=address";

/// The most memory that a target may take, in MiB, with the sanitizer's own.
const MEMORY: u32 = 2048;

/// Runs the targets, and prints what was done and which lines of the parsers that reached.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    all(&args.targets, args.seconds.unwrap_or(args.minutes * 60))?;
    // What one target leaves to another is no gap: lines are counted for all, by all that any has found so far.
    coverage::print(&targets()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs targets for so many seconds each; without names, all.
pub(crate) fn all(names: &[String], seconds: u32) -> Result<()> {
    let known = targets()?;
    let wanted = if names.is_empty() { &known } else { names };
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!(
            "There is no target {unknown}; there are {}",
            known.join(", ")
        );
    }
    progress::step("Building the fuzz targets", || {
        build(&directory(), SANITIZER)
    })?;
    println!(
        "{:<12} {:>12} {:>10} {:>9} {:>8} {:>9}",
        "target", "executions", "a second", "edges", "inputs", "peak MiB"
    );
    // A target is one thread.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    for names in wanted.chunks(processors) {
        let what = format!("Fuzzing {} for {seconds} s", names.join(" and "));
        for row in progress::step(&what, || at_once(names, seconds))? {
            println!("{row}");
        }
    }
    Ok(())
}

/// Runs some targets at the same time, and returns their rows of the table.
fn at_once(names: &[String], seconds: u32) -> Result<Vec<String>> {
    thread::scope(|scope| {
        let runs: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| fuzz(name, seconds)))
            .collect();
        let rows = runs.into_iter().map(|run| {
            run.join()
                .unwrap_or_else(|_| bail!("The thread of a target has died"))
        });
        rows.collect()
    })
}

/// Every target, by name.
fn targets() -> Result<Vec<String>> {
    let directory = workspace::root().join("tests/fuzz/targets");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("Cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    ensure!(!names.is_empty(), "{} has no targets", directory.display());
    Ok(names)
}

fn directory() -> PathBuf {
    workspace::target().join("fuzz")
}

/// Builds all targets into a directory, with flags beside those of libFuzzer.
fn build(directory: &Path, flags: &str) -> Result<()> {
    let manifest = workspace::root().join("tests/fuzz/Cargo.toml");
    let words = [
        "build".as_ref(),
        "--release".as_ref(),
        "--manifest-path".as_ref(),
        manifest.as_os_str(),
        "--target-dir".as_ref(),
        directory.as_os_str(),
        // Keeps the flags away from build scripts.
        "--target".as_ref(),
        "x86_64-unknown-linux-gnu".as_ref(),
    ];
    let flags = format!("{FLAGS} {flags}");
    cargo(&words, &[("RUSTFLAGS", &flags), ("RUSTC_BOOTSTRAP", "1")])
}

/// Where `build` has put a target.
fn program(directory: &Path, name: &str) -> PathBuf {
    directory
        .join("x86_64-unknown-linux-gnu/release")
        .join(name)
}

/// Runs a target, whose new inputs stay in target/fuzz, and returns its row of the table.
fn fuzz(name: &str, seconds: u32) -> Result<String> {
    let directory = directory();
    let found = directory.join("corpus").join(name);
    let artifacts = directory.join("artifacts").join(name);
    for directory in [&found, &artifacts] {
        std::fs::create_dir_all(directory)?;
    }
    let output = Command::new(program(&directory, name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-max_len=65536", "-timeout=20"])
        .arg(&found)
        .arg(workspace::root().join("tests/fuzz/corpus").join(name))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last: Vec<_> = said.lines().rev().take(60).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        bail!(
            "{name} has found something ({}): the input is in {}. Once it is mended, the input belongs in tests/fuzz/corpus/{name}.\n{}",
            output.status,
            artifacts.display(),
            last.join("\n")
        );
    }
    row(name, seconds, &said, &found)
}

fn row(name: &str, seconds: u32, said: &str, found: &Path) -> Result<String> {
    let stat = |key: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.with_context(|| format!("{name} does not say {key}"))
    };
    let executions = stat("stat::number_of_executed_units:")?;
    let peak = stat("stat::peak_rss_mb:")?;
    ensure!(executions > 0, "{name} has executed nothing");
    // "#123  DONE   cov: 456 ft: …"
    let covered = said
        .lines()
        .filter_map(|line| line.split_once("cov: "))
        .next_back();
    let covered = covered.and_then(|(_, rest)| rest.split_whitespace().next());
    let covered = covered.with_context(|| format!("{name} does not say what it covered"))?;
    let inputs = std::fs::read_dir(found)?.count();
    let speed = executions / u64::from(seconds).max(1);
    Ok(format!(
        "{name:<12} {executions:>12} {speed:>10} {covered:>9} {inputs:>8} {peak:>9}"
    ))
}

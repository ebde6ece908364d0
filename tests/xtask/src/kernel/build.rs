//! Configures and compiles one kernel with the kernel's own make. Knows the tools and the targets; decides no option and
//! keeps no cache.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::PACKAGES;
use super::compact::compact;
use super::fragment::Fragment;
use crate::progress;

/// Programs that the build calls. A header (libelf's) is looked for as well.
const TOOLS: &[&str] = &["make", "gcc", "ld", "flex", "bison", "bc"];

/// Fails with the packages to install if a tool is missing, before minutes are spent.
pub(super) fn missing_tools() -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path =
        |tool: &&&str| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|tool| !in_path(tool))
        .copied()
        .collect();
    if !Path::new("/usr/include/libelf.h").exists() {
        missing.push("libelf.h");
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "A kernel build needs {}. Install with: apt-get install {}",
        missing.join(", "),
        PACKAGES.join(" ")
    );
}

/// Builds the kernel of `tree` with the options of `fragment` over tinyconfig, in `objects`, and puts into `output`:
/// `vmlinux` (what a loader needs of it), `config` (the whole configuration) and `System.map` (to read addresses in a panic).
pub(super) fn build(
    tree: &Path,
    objects: &Path,
    fragment: &Fragment,
    output: &Path,
) -> anyhow::Result<()> {
    fs::create_dir_all(objects).with_context(|| format!("Cannot create {}", objects.display()))?;
    configure(tree, objects, fragment)?;
    progress::step("Compiling the kernel", || compile(tree, objects))?;
    let linked = objects.join("vmlinux");
    let elf =
        fs::read(&linked).with_context(|| format!("The build left no {}", linked.display()))?;
    let kernel = compact(&elf).with_context(|| format!("Cannot use {}", linked.display()))?;
    fs::write(output.join("vmlinux"), kernel)
        .with_context(|| format!("Cannot write to {}", output.display()))?;
    for (from, to) in [(".config", "config"), ("System.map", "System.map")] {
        fs::copy(objects.join(from), output.join(to))
            .with_context(|| format!("The build left no {from}"))?;
    }
    Ok(())
}

/// Writes `.config`: tinyconfig's own options, then ours, everything else off; and checks that ours took effect.
fn configure(tree: &Path, objects: &Path, fragment: &Fragment) -> anyhow::Result<()> {
    let mut wanted = String::new();
    for tiny in [
        "kernel/configs/tiny-base.config",
        "kernel/configs/tiny.config",
    ] {
        let path = tree.join(tiny);
        wanted += &fs::read_to_string(&path)
            .with_context(|| format!("Cannot read {}", path.display()))?;
    }
    wanted += &fragment.kconfig();
    let list = objects.join("wanted.config");
    fs::write(&list, wanted).with_context(|| format!("Cannot write {}", list.display()))?;
    let output = make(tree, objects)
        .arg("allnoconfig")
        .env("KCONFIG_ALLCONFIG", &list)
        .output()
        .context("Cannot run make")?;
    if !output.status.success() {
        bail!(
            "Kconfig failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let path = objects.join(".config");
    let config =
        fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
    fragment.check(&config)
}

/// Compiles `vmlinux`, and says now and then how far it is.
fn compile(tree: &Path, objects: &Path) -> anyhow::Result<()> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let log = objects.join("build.log");
    let errors =
        fs::File::create(&log).with_context(|| format!("Cannot create {}", log.display()))?;
    let mut child = make(tree, objects)
        .arg(format!("--jobs={jobs}"))
        .arg("vmlinux")
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("Cannot run make")?;
    let stdout = child.stdout.take().context("make has no standard output")?;
    let mut counter = Counter::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("Cannot read what make says")?;
        if line.trim_ascii_start().starts_with(b"CC ") {
            counter.count();
        }
    }
    counter.end();
    let status = child.wait().context("Cannot wait for make")?;
    if !status.success() {
        let said = fs::read(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n");
        bail!(
            "make ended with {status}; the end of {}:\n{last}",
            log.display()
        );
    }
    Ok(())
}

/// The kernel's make, in a state that does not depend on who calls it: the same source gives the same file.
fn make(tree: &Path, objects: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("--directory")
        .arg(tree)
        .arg(format!("O={}", objects.display()))
        .stdin(Stdio::null());
    for variable in [
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "ARCH",
        "CROSS_COMPILE",
        "KCONFIG_CONFIG",
        "LLVM",
        "KCFLAGS",
    ] {
        make.env_remove(variable);
    }
    make.env("LC_ALL", "C")
        .env("KBUILD_BUILD_USER", "hull")
        .env("KBUILD_BUILD_HOST", "hull");
    make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
        .env("KBUILD_BUILD_VERSION", "1");
    make
}

/// Shows how many files are compiled: in place on a terminal, else a line every quarter of a minute.
struct Counter {
    files: u32,
    start: Instant,
    shown: Instant,
    terminal: bool,
}

impl Counter {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            files: 0,
            start: now,
            shown: now,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn count(&mut self) {
        self.files += 1;
        let pause = if self.terminal {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(15)
        };
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let text = format!(
            "{} files compiled after {} s",
            self.files,
            self.start.elapsed().as_secs()
        );
        if self.terminal {
            eprint!("\r    {text}");
            let _ = std::io::stderr().flush();
        } else {
            progress::note(&text);
        }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests;

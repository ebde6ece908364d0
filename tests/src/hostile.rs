//! The hostile guest: how its program is built, and what it is told. Knows neither hull nor what the program does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A program that is alone on its machine: no start files, no libraries, at a fixed address, with the note that names the
/// entry point.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Crelocation-model=static",
    "-Cstrip=symbols",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none,-e,entry",
];

/// Where the program is once it is built.
#[must_use]
pub fn program() -> PathBuf {
    crate::fixture::path("hostile.elf")
}

/// Builds the program: a second's work, so it is built each time.
pub fn make() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/main.rs");
    std::fs::create_dir_all(crate::fixture::path(""))?;
    let partial = crate::fixture::path("hostile.elf.partial");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(FLAGS)
        .args(["--crate-name=hostile", "-o"])
        .args([&partial, &source])
        .stdin(Stdio::null())
        .output()
        .context("rustc does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "rustc failed: {said}");
    std::fs::rename(partial, program())?;
    Ok(())
}

/// What the guest does, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// What all it does follows from.
    pub seed: u64,
    /// Accesses to registers, descriptors, kicks and requests until it ends.
    pub steps: u64,
    /// Processors that do them, 1 or 2.
    pub processors: u64,
    /// Whether it also sends what is no word of the agent protocol, which ends the run before its time.
    pub lies: bool,
}

impl Orders {
    /// As the guest reads them out of its initramfs.
    #[must_use]
    pub fn initramfs(self) -> Vec<u8> {
        let words = [self.seed, self.steps, self.processors, self.lies.into()];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

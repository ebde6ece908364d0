//! `cargo xtask bench`: the project's figures, against their targets. Knows where each part is measured; the scenarios are in
//! `benches/`.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::build::cargo;
use crate::cpio::Archive;
use crate::{apt, build, lab, progress, workspace};

/// What can be typed after `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Builds what is measured, measures it and prints a table.
pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    apt::need(&[
        ("crun", "crun"),
        ("runc", "runc"),
        ("qemu-system-x86_64", "qemu-system-x86"),
    ])?;
    build::ensure()?;
    build::images()?;
    reboot_archive()?;
    progress::step("Building the scenarios", || {
        cargo(&["build", "--release", "--package", "benches"], &[])
    })?;
    let scenarios = workspace::target().join("release/benches");
    println!("In the lab, on its clock (1 ms is a million instructions):");
    let command: Vec<OsString> = vec![scenarios.clone().into(), "lab".into()];
    let code = lab::exit_code(lab::Args::new(command).icount().timeout(1200))?;
    if code != 0 {
        bail!("The scenarios in the lab failed (exit code {code})");
    }
    println!("\nOn this machine:");
    let status = Command::new(&scenarios)
        .arg("machine")
        .stdin(Stdio::null())
        .status();
    if !status.context("The scenarios do not start")?.success() {
        bail!("The scenarios on this machine failed");
    }
    Ok(ExitCode::SUCCESS)
}

/// The least that a kernel can be given to run: an init that reboots at once.
fn reboot_archive() -> Result<()> {
    let mut archive = Archive::new();
    for directory in ["bin", "dev", "proc"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file(
        "bin/busybox",
        0o755,
        &std::fs::read("/bin/busybox").context("There is no /bin/busybox")?,
    );
    archive.file(
        "init",
        0o755,
        b"#!/bin/busybox sh\nexec /bin/busybox reboot -f\n",
    );
    let directory = workspace::target().join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(std::fs::write(
        directory.join("reboot.cpio"),
        archive.finish(),
    )?)
}

//! `cargo xtask lint`: everything that can be said of the code without running it. Knows the rules that no compiler checks.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::build::cargo;
use crate::{progress, workspace};

mod dependencies;
mod inventory;

/// What can be typed after `cargo xtask lint`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only count what is unsafe in each file, and write it down in tests/unsafe.txt, with which the lint compares it
    #[arg(long)]
    count_unsafe: bool,
    /// Also check licences, versions and sources of what hull is made of, with cargo-deny, which is built first
    #[arg(long, conflicts_with = "count_unsafe")]
    dependencies: bool,
}

/// The most lines that a file should have: what is longer tends to have two subjects. Said, not refused.
const LONGEST: usize = 400;

/// Checks everything, or counts.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.count_unsafe {
        inventory::write(&workspace::root(), &list()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    check()?;
    if args.dependencies {
        dependencies()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks what hull is made of.
pub(crate) fn dependencies() -> Result<()> {
    progress::step("Checking dependencies", dependencies::check)
}

/// Checks everything; the first thing that is wrong is the error.
pub(crate) fn check() -> Result<()> {
    progress::step("Checking the format", || {
        cargo(&["fmt", "--all", "--check"], &[])
    })?;
    progress::step("Checking files", files)?;
    progress::step("Checking with clippy", || {
        // The suites that `cargo test` does not run by itself are no target of all, nor of any other choice than their own; nor is the
        // build that is attacked from inside.
        for targets in [
            &["--workspace", "--all-targets"][..],
            &["--workspace", "--test", "*"],
            &["--package", "hull", "--bins", "--features", "hostile"],
        ] {
            let words = [&["clippy"], targets, &["--", "-D", "warnings"]];
            cargo(&words.concat(), &[])?;
        }
        Ok(())
    })?;
    progress::step("Checking the documentation", || {
        let words = [
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ];
        cargo(
            &words,
            &[(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private_intra_doc_links",
            )],
        )
    })
}

/// Every Rust file of the repository.
fn list() -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--", "*.rs"])
        .current_dir(workspace::root())
        .output();
    let output = output.context("git does not run")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let list = String::from_utf8(output.stdout).context("A file's name is not UTF-8")?;
    let names = list.split('\0').filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// Every Rust file says what it is in its first line; those that have grown too long are named.
fn files() -> Result<()> {
    let root = workspace::root();
    let list = list()?;
    let mut wrong = Vec::new();
    for name in &list {
        // A file that was removed but not yet committed.
        let Ok(text) = std::fs::read_to_string(root.join(name)) else {
            continue;
        };
        let lines = text.lines().count();
        if lines > LONGEST {
            progress::note(&format!(
                "{name} has {lines} lines; {LONGEST} are enough for one subject"
            ));
        }
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{name} does not say what it is (//!) in its first line"
            ));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"))
    }
    inventory::check(&root, &list)
}

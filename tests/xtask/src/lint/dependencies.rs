//! What hull is made of, against `deny.toml`: licences, versions that are there twice, and where it all comes from. By
//! cargo-deny, which is built where it is not there. Advisories are not asked for: they are on the internet, not in a registry.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{build, progress, workspace};

/// The version that is used: another might find something else.
const VERSION: &str = "0.20.2";

/// Checks them all.
pub(super) fn check() -> Result<()> {
    let place = workspace::target().join(format!("tools/cargo-deny-{VERSION}"));
    let program = place.join("bin/cargo-deny");
    if !program.exists() {
        progress::step("Building cargo-deny", || {
            let place = place.to_str().context("The target's path is not UTF-8")?;
            let words = ["install", "--quiet", "--locked", "--debug", "--root", place];
            build::cargo(
                &[&words[..], &["--version", VERSION, "cargo-deny"]].concat(),
                &[],
            )
        })?;
    }
    let status = Command::new(program)
        .args([
            "--workspace",
            "--locked",
            "check",
            "licenses",
            "bans",
            "sources",
        ])
        .current_dir(workspace::root())
        .status()
        .context("cargo-deny does not run")?;
    ensure!(
        status.success(),
        "Dependencies are not what deny.toml wants ({status})"
    );
    Ok(())
}

//! `cargo xtask demo`: from a bare machine to a greeting out of a virtual machine. A list of steps; each is another module's.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{apt, build, lab, progress};

/// What can be typed after `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Builds all that is needed and runs a container.
pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    apt::need(&packages())?;
    let hull = build::ensure()?;
    progress::step(
        "Making an image out of Debian's busybox",
        tests::fixture::make,
    )?;
    let direct = boots_linux(&hull)?;
    if !direct {
        progress::note(
            "This machine's KVM boots no Linux (`hull doctor` says why): running in the lab.",
        );
    }
    let image: OsString = tests::fixture::busybox().into();
    for words in [
        vec!["uname", "-a"],
        vec!["echo", "hello from a virtual machine"],
    ] {
        let mut command: Vec<OsString> = vec![
            hull.clone().into(),
            "run".into(),
            "--rm".into(),
            image.clone(),
        ];
        command.extend(words.iter().map(Into::into));
        println!("$ hull run --rm {} {}", image.display(), words.join(" "));
        progress::step("Running it", || match execute(command, direct)? {
            0 => Ok(()),
            code => bail!("The run ended with exit code {code}"),
        })?;
    }
    progress::note(&format!(
        "All of it took {:.0} s.",
        start.elapsed().as_secs_f64()
    ));
    Ok(ExitCode::SUCCESS)
}

/// All that is needed to build hull and run a container, at once: whoever has to install it by hand types one line.
pub(crate) fn packages() -> Vec<apt::Need<'static>> {
    let mut packages = build::GUEST.to_vec();
    packages.push(("/bin/busybox", "busybox-static"));
    // What hull itself will say once it is built, and not wrong where it matters: no virtualisation, no Linux.
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualisation = processor
        .split_whitespace()
        .any(|flag| ["svm", "vmx"].contains(&flag));
    if !virtualisation || !Path::new("/dev/kvm").exists() {
        packages.extend(lab::PACKAGES);
    }
    packages
}

/// Whether hull can run on this machine as it is.
pub(crate) fn boots_linux(hull: &Path) -> Result<bool> {
    let mut doctor = Command::new(hull);
    doctor
        .arg("doctor")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(doctor.status().context("hull does not start")?.success())
}

/// Runs a command here or in the lab and returns its exit code.
fn execute(command: Vec<OsString>, direct: bool) -> Result<u8> {
    if !direct {
        return lab::exit_code(lab::Args::new(command));
    }
    let (program, arguments) = command.split_first().context("There is no command")?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .status()?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX))
}

//! Debian packages: which program needs which, and how they get here. Knows nothing of what they are for.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress;

/// A file, and the package that brings it.
pub(crate) type Need<'a> = (&'a str, &'a str);

/// Makes sure that each file exists, by installing the package named beside it where one does not.
///
/// Without root and without a passwordless sudo nothing is changed: the error then is the one line to type.
pub(crate) fn need(wanted: &[Need<'_>]) -> Result<()> {
    let mut missing: Vec<&str> = wanted
        .iter()
        .filter(|(file, _)| !present(file))
        .map(|(_, package)| *package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let Some(prefix) = privilege() else {
        let update = if lists_are_there() {
            ""
        } else {
            "sudo apt-get update && "
        };
        bail!(
            "Some packages are missing. Please run: {update}sudo apt-get install --no-install-recommends {packages}"
        );
    };
    progress::step(&format!("Installing {packages}"), || {
        let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
        arguments.extend(&missing);
        // The package lists may be missing or too old: only then is the slow update worth its time.
        if apt_get(&prefix, &arguments).is_err() {
            apt_get(&prefix, &["update", "-q"])?;
            apt_get(&prefix, &arguments)?;
        }
        Ok(())
    })?;
    if let Some((file, package)) = wanted.iter().find(|(file, _)| !present(file)) {
        bail!("Package {package} was installed but brought no {file}");
    }
    Ok(())
}

/// The newest package whose name starts and ends so and has only a version in between; `preferred` when it is still there.
pub(crate) fn newest(start: &str, end: &str, preferred: &str) -> Result<String> {
    match find(start, end, preferred)? {
        Some(name) => Ok(name),
        None => {
            let prefix = privilege()
                .context("The package lists are empty. Please run: sudo apt-get update")?;
            apt_get(&prefix, &["update", "-q"])?;
            find(start, end, preferred)?
                .with_context(|| format!("No package {start}*{end} is to be had"))
        }
    }
}

/// Downloads a package into a directory and unpacks it there, without installing it.
pub(crate) fn unpack(package: &str, directory: &Path) -> Result<()> {
    let download = tempfile::tempdir_in(directory)?;
    let mut command = Command::new("apt-get");
    command
        .args(["download", "-q"])
        .current_dir(download.path());
    if rustix::process::geteuid().is_root() {
        command.args(["-o", "APT::Sandbox::User=root"]);
    }
    run(command.arg(package))?;
    for entry in std::fs::read_dir(download.path())? {
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(entry?.path())
            .arg(directory))?;
    }
    Ok(())
}

/// Whether apt knows any packages.
fn lists_are_there() -> bool {
    let lists = std::fs::read_dir("/var/lib/apt/lists");
    lists.is_ok_and(|mut files| {
        files.any(|file| {
            file.is_ok_and(|file| file.file_name().to_string_lossy().contains("_Packages"))
        })
    })
}

fn find(start: &str, end: &str, preferred: &str) -> Result<Option<String>> {
    let output = Command::new("apt-cache")
        .args(["pkgnames", start])
        .output()
        .context("apt-cache does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = |name: &str| -> Option<Vec<u64>> {
        let middle = name.strip_prefix(start)?.strip_suffix(end)?;
        let digits: Vec<&str> = middle
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .collect();
        (!digits.is_empty()).then(|| digits.iter().filter_map(|part| part.parse().ok()).collect())
    };
    let names: Vec<&str> = text
        .lines()
        .filter(|name| version(name).is_some())
        .collect();
    let chosen = names
        .iter()
        .find(|name| **name == preferred)
        .or_else(|| names.iter().max_by_key(|name| version(name)));
    Ok(chosen.map(|name| (*name).to_owned()))
}

/// Whether a file exists: an absolute path, or a program somewhere in PATH or in the directories of root's programs.
fn present(file: &str) -> bool {
    if file.starts_with('/') {
        return Path::new(file).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(more)
        .any(|directory| directory.join(file).is_file())
}

/// What to put before a command that root has to run; nothing where we cannot become root.
fn privilege() -> Option<Vec<&'static str>> {
    if rustix::process::geteuid().is_root() {
        return Some(Vec::new());
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success())
        .then(|| vec!["sudo", "-n"])
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> Result<()> {
    let mut words = prefix.to_vec();
    words.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    words.extend(arguments);
    run(Command::new(words[0]).args(&words[1..]))
}

/// Runs a program quietly; what it printed belongs to the error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} does not run"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{name} failed ({}):\n{tail}", output.status);
    }
    Ok(())
}

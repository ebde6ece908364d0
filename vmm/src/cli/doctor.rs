//! `hull doctor`: whether this host can run hull, and what to do if not.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::failure::{Failure, line};
use crate::launch::{self, LaunchError};
use crate::library::Library;
use crate::machine::probe;
use crate::{cgroup, host, jail, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// What was looked at, and what is wrong with it.
struct Check {
    what: &'static str,
    found: Result<String, (String, String)>,
}

pub(super) fn run(_: Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let library = Library::from_environment();
    let checks = [
        Check {
            what: "KVM",
            found: kvm(),
        },
        file("kernel", library.kernel(1)),
        file("kernel SMP", library.kernel(2)),
        file("initramfs", library.initramfs()),
        Check {
            what: "store",
            found: stored(root),
        },
    ];
    let mut fit = true;
    for check in checks {
        match check.found {
            Ok(text) => println!("ok    {:<12}{text}", check.what),
            Err((problem, hint)) => {
                fit = false;
                println!("FAIL  {:<12}{problem}", check.what);
                for line in hint.lines() {
                    println!("      {:<12}{line}", "");
                }
            }
        }
    }
    let (processes, group) = (jail::missing_at_a_start(), cgroup::delegated());
    // Last, for it cannot be undone.
    let mut missing = jail::enter(
        &jail::Needs {
            descriptors: &[],
            writes: true,
            saves: false,
            network: jail::Network::None,
            threads: 1,
        },
        &mut jail::Shares::default(),
    );
    missing.extend(processes);
    if missing.is_empty() {
        println!("ok    {:<12}every layer is allowed", "jail");
    }
    for layer in missing {
        println!("less  {:<12}{layer}", "jail");
        println!(
            "      {:<12}Runs go on without it; --jail strict refuses.",
            ""
        );
    }
    match group {
        Ok(group) => println!("ok    {:<12}{}", "cgroup", group.display()),
        Err(_) => println!(
            "less  {:<12}no control group is delegated to this user\n      {:<12}Runs go on without \
             one. `systemd-run --user --scope hull run …` has one.",
            "cgroup", ""
        ),
    }
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn kvm() -> Result<String, (String, String)> {
    let device = launch::open_kvm().map_err(|error| {
        let hint = match &error {
            LaunchError::Kvm(source) => host::explain_kvm(source),
            _ => String::new(),
        };
        (line(&error), hint)
    })?;
    let fit = if probe::has_virtualisation() {
        Ok(())
    } else {
        probe::probe(device)
    };
    match fit {
        Ok(()) => Ok(format!("{} runs kernels", launch::KVM)),
        Err(unfit) => Err((line(&unfit), host::explain_emulated())),
    }
}

fn file(
    what: &'static str,
    found: Result<crate::library::Opened, crate::library::LibraryError>,
) -> Check {
    let found = match found {
        Ok(file) => Ok(file.path.display().to_string()),
        Err(error) => Err((
            line(&error),
            "`cargo xtask build` makes it; HULL_LIB names another directory.".to_owned(),
        )),
    };
    Check { what, found }
}

fn stored(root: Option<PathBuf>) -> Result<String, (String, String)> {
    let advice = "Name a directory that you can write with --root.";
    let directory = store::directory(root.clone());
    match store::open(root).and(directory) {
        Ok(directory) => Ok(directory.display().to_string()),
        Err(failure) => Err((failure.line(), advice.to_owned())),
    }
}

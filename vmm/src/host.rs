//! What this host must have to run hull, told in words: each thing that can be
//! missing, and what to do about it. Used by `doctor` and by a `run` that fails.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::failure::Failure;
use crate::launch::{self, KVM, LaunchError};
use crate::machine::probe;

const LAB: &str = "`cargo xtask lab -- hull run …` runs hull on an emulated host, on any machine.";

/// The explanation of why `/dev/kvm` could not be opened.
pub(crate) fn explain_kvm(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "Load the module: `sudo modprobe kvm_intel` or `sudo modprobe kvm_amd`.\n\
             In a virtual machine, its host must allow nested virtualisation.\n{LAB}"
        ),
        io::ErrorKind::PermissionDenied => {
            let group = fs::metadata(KVM).ok().map(|metadata| metadata.gid());
            let name =
                group.and_then(|gid| group_name(&fs::read_to_string("/etc/group").ok()?, gid));
            match name {
                Some(name) if name != "root" => format!(
                    "Join the group that may use it: `sudo usermod -aG {name} $USER`, then log in again."
                ),
                _ => "Let a group use it: `sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm`, \
                      and join that group."
                    .to_owned(),
            }
        }
        _ => LAB.to_owned(),
    }
}

/// What to do about a KVM that cannot run a kernel.
pub(crate) fn explain_emulated() -> String {
    format!(
        "This host is a virtual machine without nested virtualisation; its KVM runs user code only.\n\
         Use a machine with Intel VT-x or AMD-V, or ask for nested virtualisation.\n{LAB}"
    )
}

/// Whether this host can run guests; costs nothing where the processor has virtualisation.
pub(crate) fn check() -> Result<(), Failure> {
    if probe::has_virtualisation() {
        return Ok(());
    }
    let device = launch::open_kvm().map_err(unfit)?;
    probe::probe(device).map_err(|error| Failure::new(error).hint(explain_emulated()))
}

/// `error` with what to do about it, when it is about `/dev/kvm`.
pub(crate) fn unfit(error: LaunchError) -> Failure {
    match &error {
        LaunchError::Kvm(source) => {
            let hint = explain_kvm(source);
            Failure::new(error).hint(hint)
        }
        _ => Failure::new(error),
    }
}

fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests;

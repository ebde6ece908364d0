//! Flags of `docker run` that hull does not have, and what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

const NO_FILES: &str = "Containers share no files with the host yet: send them in with -i and take them from standard output.";
const NO_NETWORK: &str = "Containers have no network yet, which is docker's `--network none`.";
const OWN_KERNEL: &str =
    "Leave it out: the command is root of a kernel of its own, and holds no privilege on the host.";
const NO_DEVICES: &str = "Devices of the host are never passed into a container.";

const FLAGS: [(&[&str], &str); 5] = [
    (
        &["-v", "--volume", "--mount", "--volumes-from", "--tmpfs"],
        NO_FILES,
    ),
    (
        &[
            "-p",
            "--publish",
            "-P",
            "--publish-all",
            "--network",
            "--net",
            "--dns",
            "--ip",
            "--link",
            "--add-host",
        ],
        NO_NETWORK,
    ),
    (
        &[
            "--privileged",
            "--cap-add",
            "--cap-drop",
            "--security-opt",
            "--userns",
        ],
        OWN_KERNEL,
    ),
    (&["--device", "--gpus"], NO_DEVICES),
    (
        &["--init"],
        "Leave it out: hull's own init is always process 1.",
    ),
];

/// What to tell somebody who typed a flag that docker has and hull has not.
pub(super) fn advice(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = typed.split('=').next().unwrap_or(typed);
    let known = FLAGS.iter().find(|(names, _)| names.contains(&name));
    known.map(|(_, advice)| *advice)
}

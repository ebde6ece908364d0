//! Flags of docker and podman that hull does not have, and what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

const NO_OTHER_VOLUMES: &str =
    "Name the volumes once more with -v; there is one kind of them, on this host.";
const NO_NETWORK: &str = "Containers of one network see each other by name: `hull network create NETWORK`, then --network NETWORK and --network-alias NAME.";
const OWN_KERNEL: &str = "Leave it out: each container has a kernel of its own, and shares no namespace with the host or another container.";
const NO_DEVICES: &str = "Devices of the host are never passed into a container; --privileged gives it its own kernel's /dev/fuse, /dev/kmsg and /dev/net/tun.";
const WHOLE_MACHINE: &str =
    "A container is bounded as a whole machine: by --memory, --cpus and --pids-limit.";

const FLAGS: [(&[&str], &str); 16] = [
    (
        &["-a", "--attach"],
        "All of a command's output is passed on, and with -i its input: redirect what is not wanted, as with 2>/dev/null.",
    ),
    (
        &["--annotation"],
        "--label KEY=VALUE stays with the container.",
    ),
    (
        &["--disable-content-trust"],
        "policy.json says which signatures an image needs; --insecure-options image passes it over.",
    ),
    (
        &["--health-start-interval"],
        "--health-interval holds from the start; --health-start-period says how long failures do not count.",
    ),
    (
        &["--use-api-socket"],
        "There is no daemon, and so no socket of one.",
    ),
    (
        &["--env-host"],
        "-e NAME passes a variable on; all of them are --env-file <(env).",
    ),
    (
        &["--secret"],
        "A file of the host is -v FILE:/run/secrets/NAME:ro.",
    ),
    (&["--pod", "--pod-id-file", "--infra-command"], NO_NETWORK),
    (
        &["--replace"],
        "`hull rm -f NAME` removes the container that has the name.",
    ),
    (
        &["--timeout"],
        "timeout(1) ends hull after a while, and hull the command: timeout 10 hull run …",
    ),
    (
        &["--storage-opt"],
        "--storage SIZE bounds what the container may write.",
    ),
    (&["--volumes-from", "--volume-driver"], NO_OTHER_VOLUMES),
    (&["--ip6", "--link", "--link-local-ip"], NO_NETWORK),
    (
        &[
            "--userns",
            "--ipc",
            "--pid",
            "--uts",
            "--cgroupns",
            "--cgroup-parent",
            "--isolation",
            "--runtime",
        ],
        OWN_KERNEL,
    ),
    (
        &[
            "--device",
            "--device-cgroup-rule",
            "--device-read-bps",
            "--device-read-iops",
            "--device-write-bps",
            "--device-write-iops",
            "--gpus",
        ],
        NO_DEVICES,
    ),
    (
        &[
            "-c",
            "--cpu-shares",
            "--cpu-period",
            "--cpu-quota",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
            "--cpu-count",
            "--cpu-percent",
            "--cpuset-cpus",
            "--cpuset-mems",
            "--blkio-weight",
            "--blkio-weight-device",
            "--io-maxbandwidth",
            "--io-maxiops",
            "--memory-reservation",
            "--memory-swap",
            "--memory-swappiness",
            "--kernel-memory",
            "--oom-kill-disable",
            "--oom-score-adj",
        ],
        WHOLE_MACHINE,
    ),
];

/// What to tell somebody who typed a flag that docker has and hull has not.
pub(super) fn advice(error: &mut clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = typed.split('=').next().unwrap_or(typed);
    let (_, advice) = FLAGS.iter().find(|(names, _)| names.contains(&name))?;
    // A flag that is spelled alike is not what was meant.
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::Suggested);
    Some(advice)
}

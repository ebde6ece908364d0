//! Flags of `docker run` that hull does not have, and what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

const NO_OTHER_VOLUMES: &str =
    "Name the volumes once more with -v; there is one kind of them, on this host.";
const NO_NETWORK: &str = "Containers of one network see each other by name: `hull network create NETWORK`, then --network NETWORK and --network-alias NAME.";
const OWN_KERNEL: &str = "Leave it out: each container has a kernel of its own, and shares no namespace with the host or another container.";
const NO_DEVICES: &str = "Devices of the host are never passed into a container; --privileged gives it its own kernel's /dev/fuse, /dev/kmsg and /dev/net/tun.";
const WHOLE_MACHINE: &str =
    "A container is bounded as a whole machine: by --memory, --cpus and --pids-limit.";

const FLAGS: [(&[&str], &str); 6] = [
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

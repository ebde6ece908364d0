//! The same work in hull and in a container of the host's own kernel: what a machine costs once it runs. The work says when
//! it begins and when it has ended, and the time between the two lines at the host is what counts: neither start nor end of
//! the container is in it, and all clocks are one.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::measure::settle;
use crate::record::Record;
use crate::site::Site;

/// Containers of each runtime; the first, which pulls programs into memory, does not count.
const CONTAINERS: usize = 4;

/// Scenario, what is done, what makes ready for it, and the work.
const WORKS: &[(&str, &str, &str, &str)] = &[
    (
        "cpu",
        "SHA-256 of 8 MiB",
        "$b cat /data >/dev/null",
        "$b sha256sum /data",
    ),
    (
        "syscall",
        "100,000 system calls: 1-byte reads and writes",
        "",
        "$b dd if=/dev/zero of=/dev/null bs=1 count=50000",
    ),
    (
        "fork",
        "100 times fork, exec and wait",
        "$b true",
        "i=0; while [ $i -lt 100 ]; do $b true; i=$((i+1)); done",
    ),
    (
        "page-fault",
        "32 MiB of memory, touched for the first time",
        "",
        "$b dd if=/dev/zero of=/dev/null bs=32M count=1",
    ),
    (
        "page-fault",
        "32 MiB of memory, touched again by another process",
        "$b dd if=/dev/zero of=/dev/null bs=32M count=1",
        "$b dd if=/dev/zero of=/dev/null bs=32M count=1",
    ),
    (
        "files",
        "read 8 MiB of the image, for the first time",
        "",
        "$b dd if=/data of=/dev/null bs=64k",
    ),
    (
        "files",
        "read 8 MiB of the image, again",
        "$b cat /data >/dev/null",
        "$b dd if=/data of=/dev/null bs=64k",
    ),
    (
        "files",
        "write 8 MiB over the image",
        "",
        "$b dd if=/dev/zero of=/written bs=64k count=128",
    ),
    (
        "files",
        "write 8 MiB to a tmpfs",
        "",
        "$b dd if=/dev/zero of=/memory/written bs=64k count=128",
    ),
    (
        "files",
        "write 8 MiB to a volume",
        "$b rm -f /volume/written",
        "$b dd if=/dev/zero of=/volume/written bs=64k count=128",
    ),
    (
        "files",
        "read 8 MiB of a volume, for the first time",
        "",
        "$b dd if=/volume/written of=/dev/null bs=64k",
    ),
    (
        "files",
        "make 100 files on a tmpfs",
        "",
        "i=0; while [ $i -lt 100 ]; do : >/memory/$i; i=$((i+1)); done",
    ),
    (
        "files",
        "make 100 files on a volume",
        "$b rm -rf /volume/new; $b mkdir /volume/new",
        "i=0; while [ $i -lt 100 ]; do : >/volume/new/$i; i=$((i+1)); done",
    ),
];

/// Measures the works of a scenario.
pub(crate) fn measure(scenario: &str, site: &Site, record: &mut Record) -> Result<()> {
    for (of, name, ready, work) in WORKS {
        if *of != scenario {
            continue;
        }
        // runc gives the work the same kernel as crun: one of them is enough.
        for runtime in site.runtimes(&["crun"]) {
            let mut samples = Vec::new();
            for container in 0..CONTAINERS {
                settle();
                let took = milliseconds(site, runtime, ready, work)?;
                if container > 0 {
                    samples.push(took);
                }
            }
            record.add(name, runtime, "lab ms", samples, None);
        }
    }
    Ok(())
}

/// How long the work takes in a container of its own.
fn milliseconds(site: &Site, runtime: &str, ready: &str, work: &str) -> Result<f64> {
    let script = format!(
        "b=/bin/busybox\n{{ :\n{ready}\n}} >/dev/null 2>&1 || exit\necho begin\n{{ {work}\n}} >/dev/null 2>&1 || exit\necho end"
    );
    let mut command = site.furnished(runtime, &["/bin/busybox", "sh", "-c", &script])?;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("It was asked for")?);
    let mut line = String::new();
    let mut hear = |word: &str| {
        while line.trim_end() != word {
            line.clear();
            let length = lines.read_line(&mut line)?;
            ensure!(length > 0, "A work never came to its {word}: {script}");
        }
        anyhow::Ok(Instant::now())
    };
    let (begin, end) = (hear("begin")?, hear("end")?);
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(end.duration_since(begin).as_secs_f64() * 1000.0)
}

//! Work that asks the kernel: system calls, processes, and memory touched for the first time.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;

use crate::{succeed, time};

const BUSYBOX: &str = "/bin/busybox";
/// Bytes that are touched.
const TOUCHED: usize = 32 << 20;
/// And a byte of each of these.
const PAGE: usize = 4 << 10;

/// Calls that do little.
pub(crate) fn system_calls() -> Result<()> {
    time("100,000 times getpid", || {
        for _ in 0..100_000 {
            black_box(rustix::process::getpid());
        }
        Ok(())
    })?;
    let again = || -> Result<()> {
        for _ in 0..10_000 {
            let file = File::open(BUSYBOX)?;
            black_box(file.metadata()?.ino());
        }
        Ok(())
    };
    again()?;
    time("10,000 times open, stat and close", again)
}

/// Processes that end at once.
pub(crate) fn processes() -> Result<()> {
    let exec = || (0..100).try_for_each(|_| succeed(BUSYBOX, &["true"]));
    exec()?;
    time("100 times fork, exec and wait", exec)?;
    // A shell forks for parentheses, and executes nothing.
    let script = "i=0; while [ $i -lt 100 ]; do (:); i=$((i+1)); done";
    time("100 times fork and wait, in a shell", || {
        succeed(BUSYBOX, &["sh", "-c", script])
    })
}

/// Memory that the kernel has to find.
pub(crate) fn page_faults() -> Result<()> {
    for what in [
        "touch 32 MiB of memory, for the first time",
        "touch 32 MiB of memory, that another had before",
    ] {
        time(what, || {
            // Zeros come from the kernel, which maps nothing before it is touched.
            let mut memory = vec![0_u8; TOUCHED];
            for page in black_box(&mut memory).chunks_mut(PAGE) {
                if let Some(byte) = page.first_mut() {
                    *byte = 1;
                }
            }
            Ok(memory)
        })?;
    }
    Ok(())
}

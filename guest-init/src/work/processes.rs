//! The container's processes, as /proc has them: all but init and the kernel's own.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use protocol::Item;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Out, failed, names};

/// Bytes of a command line that are told.
const LONGEST: usize = 4096;
/// PF_KTHREAD of a process's flags.
const OF_KERNEL: u64 = 0x20_0000;
/// What follows the name in `stat`: the ninth field of all.
const FLAGS: usize = 6;

pub(super) fn processes(out: &mut Out) -> Result<(), String> {
    let uptime = read(b"/proc/uptime").map_err(|errno| failed("read", b"/proc/uptime", errno))?;
    let seconds = uptime.split(|byte| *byte == b'.').next();
    out.item(&Item::Uptime(seconds.and_then(number).unwrap_or(0)))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut all: Vec<u64> = rustix::fs::open(c"/proc", flags, Mode::empty())
        .and_then(|directory| names(&directory))
        .map_err(|errno| failed("read", b"/proc", errno))?
        .iter()
        .filter_map(|name| number(name))
        .collect();
    all.sort_unstable();
    let this = u64::try_from(rustix::process::getpid().as_raw_pid()).unwrap_or(0);
    for process in all {
        if process == 1 || process == this {
            continue;
        }
        let file = |name: &str| format!("/proc/{process}/{name}").into_bytes();
        // One that has ended meanwhile has nothing to tell.
        let (Ok(stat), Ok(status)) = (read(&file("stat")), rustix::fs::stat(file(""))) else {
            continue;
        };
        let fields = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
        let mut fields = fields.split(|byte| *byte == b' ').skip(1);
        let flags = fields.nth(FLAGS).and_then(number).unwrap_or(OF_KERNEL);
        if flags & OF_KERNEL == 0 {
            out.item(&Item::Process {
                uid: status.st_uid,
                command: read(&file("cmdline")).unwrap_or_default().into(),
                stat: stat.into(),
            })?;
        }
    }
    Ok(())
}

fn number(text: &[u8]) -> Option<u64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// The beginning of a file.
fn read(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; LONGEST];
    let length = rustix::io::read(file, bytes.as_mut_slice())?;
    bytes.truncate(length);
    Ok(bytes)
}

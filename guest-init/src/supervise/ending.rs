//! How processes end, and how that is told.

use alloc::string::ToString;
use alloc::vec::Vec;

use protocol::{FromGuest, ProcessId, Status};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::process::WaitStatus;

use crate::failure::StartError;
use crate::sys::{self, Pid};

/// The message for a process that never ran.
#[must_use]
pub fn failed(process: ProcessId, error: &StartError) -> FromGuest {
    let mut message = error.to_string();
    // Far below what a frame may hold; a path or a PATH can be longer.
    message.truncate(message.floor_char_boundary(8 << 10));
    FromGuest::Failed {
        process,
        failure: error.failure(),
        message,
    }
}

pub(super) fn status_of(status: WaitStatus) -> Option<Status> {
    let small = |number: i32| u8::try_from(number & 0xff).unwrap_or_default();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Status::Code(small(code))),
        (_, Some(signal)) => Some(Status::Signal(small(signal))),
        _ => None,
    }
}

/// Whether the kernel has killed a process for lack of memory.
pub(super) fn has_starved() -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(c"/proc/vmstat", flags, Mode::empty()) else {
        return false;
    };
    let mut text = Vec::with_capacity(16 << 10);
    while let Ok(1..) = rustix::io::read(&file, spare_capacity(&mut text)) {}
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.any(|line| line.starts_with(b"oom_kill ") && line != b"oom_kill 0")
}

/// The container ends with its first process. Only ever as pid 1: elsewhere this would be everybody.
pub(super) fn kill_all() {
    if rustix::process::getpid().is_init() {
        let _ = sys::kill(Pid(-1), sys::SIGKILL);
    }
}

//! Guest init: mounts the root, runs the workload, reports its end. It takes orders from the host over one vsock
//! connection and from nobody else; the kernel command line, the image's files and the workload give it none.
//!
//! The order of its life is [`main`]'s. It has one thread, never sleeps and never polls. The kernel keeps pid 1 from being
//! killed by the workload, by the OOM killer too, and from signals it does not handle.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod ahead;
pub mod container;
pub mod directory;
pub mod environment;
pub mod errno;
pub mod failure;
pub mod furnish;
pub mod group;
pub mod host;
pub mod identity;
pub mod network;
pub mod process;
pub mod program;
pub mod pump;
pub mod relay;
pub mod renewal;
pub mod root;
pub mod streams;
pub mod supervise;
pub mod sys;
pub mod terminal;
pub mod volumes;
pub mod work;

use alloc::format;
use core::fmt;

use protocol::{AGENT_PORT, FromGuest, FromHost, Hello, ProcessId, VERSION, Work};
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::RebootCommand;

use host::{Host, Lost};
use root::Root;
use streams::Dial;
use supervise::{Supervisor, failed};

/// pid 1's life. It ends with the machine's.
pub fn main() -> ! {
    let tsc_at_start = sys::tsc();
    // By mistake on some machine it would take that down.
    if !rustix::process::getpid().is_init() {
        sys::leave(1);
    }
    let lost = live(tsc_at_start);
    if !matches!(lost, Lost::Closed) {
        complain(&lost);
    }
    // The host is gone or content; both want the machine gone.
    let _ = rustix::system::reboot(RebootCommand::Restart);
    sys::leave(1)
}

fn live(tsc_at_start: u64) -> Lost {
    reserve_standard_descriptors();
    sys::block_signals();
    let dial: Dial = || sys::dial(AGENT_PORT);
    // The host works on its answer while the mounts are made.
    let host = dial()
        .map_err(|errno| Lost::Failed(errno.into()))
        .and_then(|socket| greet(socket, tsc_at_start));
    let mut host = match host {
        Ok(host) => host,
        Err(lost) => return lost,
    };
    let ready = Root::begin().and_then(|root| {
        let _ = host.flush();
        root.furnish().map(|()| root)
    });
    run(host, dial, ready).unwrap_or_else(|lost| lost)
}

/// Says hello on a connection under way.
///
/// # Errors
/// The connection is refused or fails.
pub fn greet(socket: OwnedFd, tsc_at_start: u64) -> Result<Host, Lost> {
    Host::greet(
        socket,
        Hello {
            version: VERSION,
            tsc_at_start,
        },
    )
}

fn run(mut host: Host, dial: Dial, ready: Result<Root, failure::SetupError>) -> Result<Lost, Lost> {
    let (mut ready, mut rested) = (ready, false);
    let (container, process) = loop {
        match host.wait()? {
            FromHost::Run { container, process } => break (container, process),
            // A machine that is not ready is not worth copying: its end tells.
            FromHost::Rest { .. } if !rested && ready.is_ok() => {
                rested = true;
                host.send(&FromGuest::Resting)?;
            }
            FromHost::ReadAhead { program, path } if !rested && ready.is_ok() => {
                if let Ok(root) = &ready {
                    root.read_program(&program, &path);
                }
            }
            FromHost::Renew(renewal) => {
                ready = ready.and_then(|root| renewal::renew(&renewal).map(|()| root))
            }
            FromHost::Work { process, work } => {
                return work_alone(host, dial, ready, process, &work);
            }
            // There is nothing yet that any other message could be about.
            _ => return Err(Lost::Failed(Errno::PROTO.into())),
        }
    };
    let furnished = ready.and_then(Root::complete).and_then(|layers| {
        let group = group::Group::make(container.pids)?;
        container::furnish(&container, layers.base).map(|()| (group, layers))
    });
    let (group, layers) = match furnished {
        Ok(furnished) => furnished,
        Err(error) => {
            host.send(&failed(process.id, &error.into()))?;
            return Ok(linger(host));
        }
    };
    let hostname = &container.hostname;
    match Supervisor::new(host, dial, hostname, Some(group), Some(layers), process.id) {
        Ok(mut supervisor) => {
            supervisor.run(&process)?;
            Ok(supervisor.serve())
        }
        Err((mut host, error)) => {
            host.send(&failed(process.id, &error.into()))?;
            Ok(linger(host))
        }
    }
}

/// The machine is for this one thing.
fn work_alone(
    host: Host,
    dial: Dial,
    ready: Result<Root, failure::SetupError>,
    process: ProcessId,
    work: &Work,
) -> Result<Lost, Lost> {
    let made = match ready.and_then(Root::complete) {
        Ok(layers) => Supervisor::new(host, dial, b"", None, Some(layers), process),
        Err(error) => Err((host, error)),
    };
    match made {
        Ok(mut supervisor) => {
            supervisor.work(process, work)?;
            Ok(supervisor.serve())
        }
        Err((mut host, error)) => {
            host.send(&failed(process, &error.into()))?;
            Ok(linger(host))
        }
    }
}

/// Waits until the host has taken what was sent and closes the connection.
fn linger(mut host: Host) -> Lost {
    loop {
        if let Err(lost) = host.wait() {
            return lost;
        }
    }
}

/// Without a console init starts with no descriptors at all; 0, 1 and 2 must not become something else's.
fn reserve_standard_descriptors() {
    while let Ok(fd) = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        if fd.as_raw_fd() > 2 {
            break;
        }
        let _ = fd.into_raw_fd();
    }
}

/// There is no host to tell: the kernel's log has an emergency level that reaches every console. The machine is about to
/// end, so whatever is on /dev may be hidden by a file system that has the log.
pub fn complain(words: &dyn fmt::Display) {
    let open = || {
        rustix::fs::open(
            c"/dev/kmsg",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let log = open().or_else(|_| {
        mount(c"devtmpfs", c"/dev", c"devtmpfs", MountFlags::empty(), None)?;
        open()
    });
    if let Ok(log) = log {
        let _ = rustix::io::write(&log, format!("<0>hull init: {words}\n").as_bytes());
    }
}

//! The package's only unsafe code: what a child process does between fork and exec. Knows no program.

#![expect(
    unsafe_code,
    reason = "pre_exec is unsafe; each closure makes nothing but system calls"
)]

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{
    Signal, getpid, getppid, ioctl_tiocsctty, set_parent_process_death_signal, setsid,
};

/// Makes the process end as soon as this one does, however it ends, and takes it out of reach of the terminal's Ctrl-C.
///
/// The kernel ties this to the *thread* that spawns, so the process must be spawned from one that lasts.
pub(crate) fn end_with_us(command: &mut Command) -> &mut Command {
    let us = getpid();
    let in_child = move || -> Result<()> {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have died before the line above: then nobody will send the signal any more.
        if getppid() == Some(us) {
            Ok(())
        } else {
            Err(Error::other("the parent is gone"))
        }
    };
    // SAFETY: the closure only makes system calls (and builds an error without allocating on the success path), which
    // is allowed between fork and exec; it touches no memory that another thread may have left locked.
    unsafe { command.pre_exec(in_child) }
}

/// Makes the process lead a new session whose terminal is its standard input.
pub(crate) fn with_terminal(command: &mut Command) -> &mut Command {
    let in_child = || -> Result<()> {
        setsid()?;
        ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: as above, the closure only makes system calls.
    unsafe { command.pre_exec(in_child) }
}

//! The VMM's process, seen from outside: the first one of a PID namespace of its own. Refuses to know what it is for.
//!
//! Nobody enters a PID namespace alive, so this layer is made where the process is. Who is not root needs a user namespace to
//! be allowed to; the jail makes another one below it, with the rights that executing a program took away.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getuid, kill_process, waitpid};

use super::layers::User;
use crate::sys;

/// What a process ends with that could not execute its program.
const NOT_EXECUTED: i32 = 127;

/// A process that this one started and will wait for.
#[derive(Debug)]
pub(crate) struct Process {
    id: Pid,
    ended: Option<ExitStatus>,
}

/// Whether the calling process is the first of a namespace.
pub(super) fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// Whether this host lets the calling user have a PID namespace.
pub(super) fn try_namespace() -> io::Result<()> {
    let id = sys::spawn(namespaces(), || 0)?;
    Process { id, ended: None }.wait().map(drop)
}

fn namespaces() -> i32 {
    let user = if getuid().is_root() {
        0
    } else {
        libc::CLONE_NEWUSER
    };
    libc::CLONE_NEWPID | user
}

impl Process {
    /// Executes this program again as `hull vmm`, in a PID namespace if the host allows one, with `input` as its standard input,
    /// no output, an empty environment and a process group of its own: Ctrl-C at the terminal is for the workload.
    pub(crate) fn start(input: &OwnedFd) -> io::Result<Self> {
        let output = File::options().write(true).open("/dev/null")?;
        let start = |namespaces: i32| {
            // Who is nobody in a user namespace may make none below it.
            let user = (namespaces & libc::CLONE_NEWUSER != 0).then(User::own);
            Self::execute(namespaces, input, &output, user)
        };
        start(namespaces()).or_else(|_| start(0))
    }

    fn execute(
        namespaces: i32,
        input: &OwnedFd,
        output: &File,
        user: Option<User>,
    ) -> io::Result<Self> {
        let mut refused = None;
        let prepare = || {
            rustix::process::setpgid(None, None)?;
            rustix::stdio::dup2_stdin(input)?;
            rustix::stdio::dup2_stdout(output)?;
            user.map_or(Ok(()), User::keep)?;
            io::Result::Ok(())
        };
        let id = sys::spawn(namespaces, || {
            let ready = prepare();
            let execute = || sys::execute(c"/proc/self/exe", &[c"hull", c"vmm"]);
            refused = Some(ready.err().unwrap_or_else(execute));
            NOT_EXECUTED
        })?;
        let mut process = Self { id, ended: None };
        match refused {
            None => Ok(process),
            Some(error) => {
                process.wait()?;
                Err(error)
            }
        }
    }

    /// One that a test started.
    #[cfg(test)]
    pub(crate) fn of_test(child: &std::process::Child) -> Self {
        Self {
            id: Pid::from_child(child),
            ended: None,
        }
    }

    /// Its number in this process's namespace.
    pub(crate) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends it a signal, unless it was waited for and its number may be another's.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match self.ended {
            None => kill_process(self.id, signal),
            Some(_) => Err(Errno::SRCH),
        }
    }

    /// Waits for its end, once and for all.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        loop {
            match waitpid(Some(self.id), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    let status = ExitStatus::from_raw(status.as_raw());
                    self.ended = Some(status);
                    return Ok(status);
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_process_writes_before_it_ends_is_seen() {
        let mut written = None;
        let id = sys::spawn(0, || {
            written = Some(getpid());
            3
        });
        let (id, ended) = (id.unwrap(), None);
        let mut process = Process { id, ended };
        for _ in 0..2 {
            assert_eq!(process.wait().unwrap().code(), Some(3));
        }
        assert_eq!(written, Some(id));
        assert_eq!(process.signal(Signal::KILL), Err(Errno::SRCH));
    }

    #[test]
    fn a_kind_of_namespace_that_is_none_is_refused() {
        let refused = sys::spawn(libc::CLONE_NEWUSER | libc::CLONE_FS, || 0);
        assert!(refused.is_err(), "{refused:?}");
    }
}

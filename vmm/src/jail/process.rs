//! The VMM's process, seen from outside: the first one of a PID namespace of its own. Refuses to know what it is for.
//!
//! Nobody enters a PID namespace alive, so this layer is made where the process is. Who is not root needs a user namespace to
//! be allowed to; the jail makes another one below it, with the rights that executing a program took away. So is the control group:
//! to move a process into one costs a grace period of the host's kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getuid, kill_process, waitpid};

use super::layers::User;
use crate::cgroup::{Group, Limits};
use crate::sys;

/// What a process ends with that could not execute its program.
const NOT_EXECUTED: i32 = 127;

/// A process that this one started and will wait for.
#[derive(Debug)]
pub(crate) struct Process {
    id: Pid,
    ended: Option<ExitStatus>,
    group: Option<Group>,
}

/// Whether the calling process is the first of a namespace.
pub(super) fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// Whether this host lets the calling user have a PID namespace.
pub(super) fn try_namespace() -> io::Result<()> {
    let mut process = Process::new(sys::spawn(namespaces(), None, || 0)?, None);
    process.wait().map(drop)
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
    fn new(id: Pid, group: Option<Group>) -> Self {
        let ended = None;
        Self { id, ended, group }
    }

    /// Executes this program again as `hull vmm`, in a PID namespace and a control group if the host allows them, with `input` as its
    /// standard input, no output, an empty environment and a process group of its own: Ctrl-C at the terminal is for the workload.
    pub(crate) fn start(input: &OwnedFd, limits: Limits) -> io::Result<Self> {
        let group = Group::new(limits).ok();
        let output = File::options().write(true).open("/dev/null")?;
        let start = |namespaces, group| Self::execute(namespaces, group, input, &output);
        match start(namespaces(), group) {
            Ok(process) => Ok(process),
            Err(_) => start(namespaces(), None).or_else(|_| start(0, None)),
        }
    }

    fn execute(
        namespaces: i32,
        group: Option<Group>,
        input: &OwnedFd,
        output: &File,
    ) -> io::Result<Self> {
        // Who is nobody in a user namespace may make none below it.
        let user = (namespaces & libc::CLONE_NEWUSER != 0).then(User::own);
        let mut refused = None;
        let prepare = || {
            rustix::process::setpgid(None, None)?;
            rustix::stdio::dup2_stdin(input)?;
            rustix::stdio::dup2_stdout(output)?;
            user.map_or(Ok(()), User::keep)
        };
        let id = sys::spawn(namespaces, group.as_ref().map(AsFd::as_fd), || {
            let ready: io::Result<()> = prepare();
            let execute = || sys::execute(c"/proc/self/exe", &[c"hull", c"vmm"]);
            refused = Some(ready.err().unwrap_or_else(execute));
            NOT_EXECUTED
        })?;
        let mut process = Self::new(id, group);
        match refused {
            None => Ok(process),
            Some(error) => {
                process.wait()?;
                Err(error)
            }
        }
    }

    /// One that ends at once.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        Self::new(sys::spawn(0, None, || 0).unwrap(), None)
    }

    /// Has another limit of memory from now on, if it has one.
    pub(crate) fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let group = self.group.as_ref();
        group.map_or(Ok(()), |group| group.limit_memory(bytes))
    }

    /// Whether the host's kernel ended it because it wanted more memory than its group may have.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(Group::was_out_of_memory)
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

/// A group can be removed when nobody is in it. Nobody wants anything of the process by now.
impl Drop for Process {
    fn drop(&mut self) {
        if self.group.is_some() {
            let _ = self.signal(Signal::KILL);
            let _ = self.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_process_writes_before_it_ends_is_seen() {
        let mut written = None;
        let id = sys::spawn(0, None, || {
            written = Some(getpid());
            3
        });
        let id = id.unwrap();
        let mut process = Process::new(id, None);
        for _ in 0..2 {
            assert_eq!(process.wait().unwrap().code(), Some(3));
        }
        assert_eq!(written, Some(id));
        assert_eq!(process.signal(Signal::KILL), Err(Errno::SRCH));
    }

    #[test]
    fn a_kind_of_namespace_that_is_none_is_refused() {
        let refused = sys::spawn(libc::CLONE_NEWUSER | libc::CLONE_FS, None, || 0);
        assert!(refused.is_err(), "{refused:?}");
    }
}

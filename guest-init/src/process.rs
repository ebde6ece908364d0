//! From a process as the host describes it to a running one: everything is looked up and laid out before the fork, so
//! that the child only makes system calls. Knows no connection and no mount.

use alloc::ffi::CString;
use alloc::string::ToString;
use alloc::vec::Vec;

use protocol::{Bytes, Limit, Privileges, Process};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::thread::{CapabilitySet, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::directory;
use crate::environment::Environment;
use crate::failure::{SetupError, StartError, refused, refused_file};
use crate::group::Group;
use crate::identity::Identity;
use crate::program::{Attempt, Program};
use crate::sys::{self, Fork, Pid, StringList};

/// The descriptors a process gets as 0, 1 and 2.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
}

impl Stdio {
    /// All three are this side of a terminal.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn terminal(near: OwnedFd) -> Result<Self, Errno> {
        let copy = || rustix::io::fcntl_dupfd_cloexec(&near, 3);
        Ok(Self {
            output: copy()?,
            error: copy()?,
            input: near,
        })
    }
}

/// A process that can be started.
#[derive(Debug)]
pub struct Launch {
    program: Program,
    arguments: StringList,
    environment: StringList,
    directory: OwnedFd,
    identity: Identity,
    /// Whether standard input is the terminal of a session that this process is to lead.
    terminal: bool,
    privileges: Privileges,
    limits: Vec<Limit>,
    filters: Vec<Bytes>,
}

impl Launch {
    /// Looks up the user, makes the working directory if it is missing, and lays out arguments and environment.
    ///
    /// # Errors
    /// No such user, no such directory possible, a zero byte within a string.
    pub fn prepare(process: &Process, hostname: &[u8]) -> Result<Self, SetupError> {
        let identity = Identity::find(&process.user, &process.groups, CWD)?;
        let given = process.env.iter().map(|entry| entry.0.clone());
        let environment =
            Environment::new(given, hostname, &identity.home, process.terminal.is_some());
        let name = process
            .argv
            .first()
            .map(|name| name.0.as_slice())
            .unwrap_or_default();
        Ok(Self {
            program: Program::new(name, environment.path()),
            arguments: strings(
                "argument",
                process.argv.iter().map(|argument| argument.0.clone()),
            )?,
            environment: strings("variable", environment.into_entries())?,
            directory: working_directory(&process.cwd)?,
            identity,
            terminal: process.terminal.is_some(),
            privileges: process.privileges,
            limits: process.limits.clone(),
            filters: process.filters.clone(),
        })
    }

    /// Whom it will run as: the owner its standard streams need, so that it can open them by name.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.identity.uid
    }

    /// Starts it, in the container's control group if there is one, and waits for the exec, not for anything after.
    ///
    /// # Errors
    /// The child could not become what was asked for. It is gone then, but not reaped.
    pub fn start(&self, stdio: Stdio, group: Option<&Group>) -> Result<Pid, StartError> {
        let (report, childs_report) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(refused("make a pipe"))?;
        match sys::fork(group.map(AsFd::as_fd)).map_err(refused("make a process"))? {
            Fork::Child => {
                let (step, attempt) = self.become_it(&stdio, group.is_some());
                let _ = rustix::io::write(&childs_report, &encode(step, attempt));
                sys::leave(127)
            }
            Fork::Parent(pid) => {
                drop(stdio);
                drop(childs_report);
                // Nothing but the end means that the exec closed the child's copy. A message comes whole.
                let mut message = [0; MESSAGE];
                let received =
                    rustix::io::retry_on_intr(|| rustix::io::read(&report, message.as_mut_slice()));
                match decode(
                    message
                        .get(..received.unwrap_or_default())
                        .unwrap_or_default(),
                ) {
                    None => Ok(pid),
                    Some((Step::Exec, attempt)) => {
                        Err(StartError::Program(self.program.explain(attempt)))
                    }
                    Some((step, attempt)) => Err(refused(step.doing())(attempt.errno).into()),
                }
            }
        }
    }

    /// In the child: leaves behind what is init's and becomes the program. Comes back only if that fails.
    fn become_it(&self, stdio: &Stdio, grouped: bool) -> (Step, Attempt) {
        match self.prepare_self(stdio, grouped) {
            Err((step, errno)) => (
                step,
                Attempt {
                    at: 0,
                    errno,
                    exists: false,
                },
            ),
            Ok(()) => {
                let attempt = self
                    .program
                    .execute(|file| sys::exec(file, &self.arguments, &self.environment));
                (Step::Exec, attempt)
            }
        }
    }

    fn prepare_self(&self, stdio: &Stdio, grouped: bool) -> Result<(), (Step, Errno)> {
        let at = |step| move |errno| (step, errno);
        if grouped {
            sys::enter_group().map_err(at(Step::Group))?;
        }
        rustix::process::setsid().map_err(at(Step::Session))?;
        rustix::process::fchdir(&self.directory).map_err(at(Step::Directory))?;
        for limit in &DEFAULT_LIMITS {
            match sys::set_limit(limit) {
                // Without the right to raise a limit (a test's machine) it stays.
                Ok(()) | Err(Errno::PERM) => {}
                Err(errno) => return Err((Step::Limits, errno)),
            }
        }
        for limit in &self.limits {
            sys::set_limit(limit).map_err(at(Step::Limits))?;
        }
        let _ = rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::stdio::dup2_stdin(&stdio.input).map_err(at(Step::Streams))?;
        rustix::stdio::dup2_stdout(&stdio.output).map_err(at(Step::Streams))?;
        rustix::stdio::dup2_stderr(&stdio.error).map_err(at(Step::Streams))?;
        if self.terminal {
            rustix::process::ioctl_tiocsctty(&stdio.input).map_err(at(Step::Streams))?;
        }
        self.give_up_privileges().map_err(at(Step::Privileges))?;
        // As runc: with a right that goes with the user, or as the very last.
        if !self.privileges.no_new {
            self.filter().map_err(at(Step::Filters))?;
        }
        self.assume_identity().map_err(at(Step::Identity))?;
        sys::unblock_signals();
        if self.privileges.no_new {
            self.filter().map_err(at(Step::Filters))?;
        }
        Ok(())
    }

    fn filter(&self) -> Result<(), Errno> {
        self.filters
            .iter()
            .try_for_each(|program| sys::filter_calls(program))
    }

    /// What is not in the bounding set is not there after the exec either, for root and for programs with capabilities of
    /// their own.
    fn give_up_privileges(&self) -> Result<(), Errno> {
        if self.privileges.no_new {
            rustix::thread::set_no_new_privs(true)?;
        }
        for number in 0..u64::BITS {
            if self.privileges.capabilities & 1 << number == 0 {
                let capability = CapabilitySet::from_bits_retain(1 << number);
                match rustix::thread::remove_capability_from_bounding_set(capability) {
                    Ok(()) => {}
                    // The kernel has no capability of this number, nor of a higher one.
                    Err(Errno::INVAL) => break,
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// Groups before the user: afterwards there may be no right to. Leaving uid 0 drops all capabilities.
    fn assume_identity(&self) -> Result<(), Errno> {
        let raw = |id| Gid::from_raw(id);
        let groups: Vec<_> = self.identity.groups.iter().copied().map(raw).collect();
        set_thread_groups(&groups)?;
        let gid = raw(self.identity.gid);
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.identity.uid);
        set_thread_res_uid(uid, uid, uid)
    }
}

/// Docker's, where they differ from the kernel's own.
const DEFAULT_LIMITS: [Limit; 2] = [
    Limit {
        resource: OPEN_FILES,
        soft: 1 << 20,
        hard: 1 << 20,
    },
    Limit {
        resource: PROCESSES,
        soft: u64::MAX,
        hard: u64::MAX,
    },
];

/// RLIMIT_NOFILE.
const OPEN_FILES: u8 = 7;
/// RLIMIT_NPROC.
const PROCESSES: u8 = 6;

/// How far a child came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Group,
    Session,
    Directory,
    Limits,
    Streams,
    Privileges,
    Identity,
    Filters,
    Exec,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Group,
        Self::Session,
        Self::Directory,
        Self::Limits,
        Self::Streams,
        Self::Privileges,
        Self::Identity,
        Self::Filters,
        Self::Exec,
    ];

    fn doing(self) -> &'static str {
        match self {
            Self::Group => "enter the control group",
            Self::Session => "begin a session",
            Self::Directory => "enter the working directory",
            Self::Limits => "set resource limits",
            Self::Streams => "hand over the standard streams",
            Self::Privileges => "give up privileges",
            Self::Identity => "take on the user and groups",
            Self::Filters => "install the seccomp filters",
            Self::Exec => "execute the program",
        }
    }
}

/// Bytes of what a failed child tells.
const MESSAGE: usize = 10;

fn encode(step: Step, attempt: Attempt) -> [u8; MESSAGE] {
    let mut message = [step as u8; MESSAGE];
    message[1] = u8::from(attempt.exists);
    message[2..6].copy_from_slice(&attempt.errno.raw_os_error().to_le_bytes());
    message[6..].copy_from_slice(&u32::try_from(attempt.at).unwrap_or(u32::MAX).to_le_bytes());
    message
}

fn decode(message: &[u8]) -> Option<(Step, Attempt)> {
    let [step, exists, e0, e1, e2, e3, a0, a1, a2, a3] = *message else {
        return None;
    };
    let step = Step::ALL.into_iter().find(|known| *known as u8 == step)?;
    let errno = Errno::from_raw_os_error(i32::from_le_bytes([e0, e1, e2, e3]));
    let at = usize::try_from(u32::from_le_bytes([a0, a1, a2, a3])).ok()?;
    Some((
        step,
        Attempt {
            at,
            errno,
            exists: exists != 0,
        },
    ))
}

fn strings(
    what: &'static str,
    list: impl IntoIterator<Item = Vec<u8>>,
) -> Result<StringList, SetupError> {
    let terminated = list.into_iter().map(|bytes| {
        CString::new(bytes).map_err(|error| SetupError::ZeroByte {
            what,
            value: error.into_vec().escape_ascii().to_string(),
        })
    });
    Ok(StringList::new(terminated.collect::<Result<_, _>>()?))
}

/// Opens the directory, making what is missing of its path; relative means from the root, where init is.
fn working_directory(path: &Bytes) -> Result<OwnedFd, SetupError> {
    let path = if path.is_empty() {
        b"/".as_slice()
    } else {
        path
    };
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let refused = refused_file("use as working directory", path);
    match open() {
        Err(Errno::NOENT) => {
            directory::create(path).map_err(&refused)?;
            open().map_err(refused)
        }
        result => result.map_err(refused),
    }
}

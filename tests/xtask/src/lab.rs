//! `cargo xtask lab`: runs a command on an emulated AMD host whose KVM boots Linux, as if it ran here. Knows nothing of
//! hull: any command will do.

mod emulator;
mod inside;
mod kvm;
mod machine;
mod parcel;
mod stdio;
mod system;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::machine::{Machine, Shape};
use self::parcel::Parcel;
use self::stdio::{Event, Streams};
use self::system::System;
use crate::cpio::Archive;
use crate::{progress, workspace};

pub(crate) use self::inside::run as run_inside;
pub(crate) use self::system::PACKAGES;

/// Labs that are begun before one that boots is given up.
const ATTEMPTS: u32 = 3;

/// What can be typed after `cargo xtask lab`.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Makes one instruction one nanosecond of the lab's clock: times repeat on any machine. One CPU
    #[arg(long)]
    icount: bool,

    /// Number of CPUs. QEMU 7.2 loses track now and then of code that one CPU's kernel changes under another: with
    /// several, a kernel may die, about once in thirty labs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    cpus: u32,

    /// Memory of the lab, as 512M or 4G; taken from this machine only as far as it is used
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = memory)]
    memory: String,

    /// Lets the lab write to this directory for real; may be given several times
    #[arg(long, value_name = "DIR")]
    share_rw: Vec<PathBuf>,

    /// Ends the lab after so many seconds, with exit code 124
    #[arg(long, value_name = "SECONDS", overrides_with = "timeout")]
    timeout: Option<u64>,

    /// Gives the command a terminal, as a shell has without being asked
    #[arg(long, short)]
    tty: bool,

    #[arg(skip)]
    trace: Option<PathBuf>,

    /// The command and its arguments; a shell when there is none
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    /// A lab for one command, which finds nothing on its standard input.
    pub(crate) fn new(command: Vec<OsString>) -> Self {
        let memory = "4G".to_owned();
        let (icount, cpus, timeout, tty) = (false, 1, None, false);
        Self {
            icount,
            cpus,
            memory,
            share_rw: Vec::new(),
            timeout,
            tty,
            trace: None,
            command,
        }
    }

    /// With the clock that counts instructions.
    pub(crate) fn icount(self) -> Self {
        Self {
            icount: true,
            ..self
        }
    }

    /// With so much memory.
    pub(crate) fn memory(self, memory: &str) -> Self {
        Self {
            memory: memory.to_owned(),
            ..self
        }
    }

    /// With this directory to write to.
    pub(crate) fn share_rw(mut self, directory: PathBuf) -> Self {
        self.share_rw.push(directory);
        self
    }

    /// For so many seconds at most.
    pub(crate) fn timeout(self, seconds: u64) -> Self {
        Self {
            timeout: Some(seconds),
            ..self
        }
    }

    /// With the processor's registers written to this file before each piece of code of a program that has no randomized addresses.
    pub(crate) fn trace(self, trace: PathBuf) -> Self {
        Self {
            trace: Some(trace),
            ..self
        }
    }
}

/// Runs the command in a lab and returns its exit code.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    Ok(ExitCode::from(exit_code(args)?))
}

/// Runs the command in a lab and returns its exit code as a number. A lab that breaks down before the command has begun is
/// begun anew.
pub(crate) fn exit_code(args: Args) -> Result<u8> {
    let system = system::get()?;
    for _ in 1..ATTEMPTS {
        match attempt(&args, &system)? {
            Some(code) => return Ok(code),
            None => progress::note("The lab broke down as it booted: once more."),
        }
    }
    attempt(&args, &system)?.context("The lab breaks down as it boots, time and again")
}

/// One lab; `None` where it broke down before the command.
fn attempt(args: &Args, system: &System) -> Result<Option<u8>> {
    let terminal = std::io::stdin().is_terminal() && (args.tty || args.command.is_empty());
    let shape = shape(args)?;
    let own = own_initramfs(args, &shape, terminal)?;
    let (streams, ports) = Streams::new()?;
    let deadline = args
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut machine = Machine::start(&shape, system, &own, ports)?;
    let events = streams.start(terminal)?;
    let _raw = if terminal {
        Some(RawTerminal::enter()?)
    } else {
        None
    };
    let mut begun = false;
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let event = match events.recv_timeout(left) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => {
                progress::note(&format!(
                    "The lab's time-out of {} s is over.",
                    args.timeout.unwrap_or(0)
                ));
                return Ok(Some(124));
            }
            Err(RecvTimeoutError::Disconnected) => Event::Gone,
        };
        match event {
            Event::Ready => begun = true,
            Event::Ended(code) => return Ok(Some(code)),
            // What a shell reports of a program whose reader has gone: 128 + SIGPIPE.
            Event::Unread => return Ok(Some(141)),
            Event::Failed(why) => bail!("The lab cannot run the command: {why}"),
            Event::Gone if !begun && machine.has_panicked() => return Ok(None),
            Event::Gone => bail!(
                "The lab has broken down. Its last words were:\n{}",
                machine.last_words()
            ),
        }
    }
}

/// A size that QEMU understands and that cannot be anything else to it.
fn memory(text: &str) -> Result<String, String> {
    let number = text.trim_end_matches(['K', 'M', 'G']);
    let plain = !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && text.len() <= number.len() + 1;
    if plain {
        Ok(text.to_owned())
    } else {
        Err("is no size such as 512M or 4G".to_owned())
    }
}

fn shape(args: &Args) -> Result<Shape> {
    if args.icount && args.cpus > 1 {
        bail!("--icount counts the instructions of one CPU: --cpus does not go with it");
    }
    let real = |path: &PathBuf| {
        std::fs::canonicalize(path)
            .with_context(|| format!("--share-rw {} is not to be found", path.display()))
    };
    let shares = args.share_rw.iter().map(real).collect::<Result<_>>()?;
    Ok(Shape {
        icount: args.icount,
        cpus: args.cpus,
        memory: args.memory.clone(),
        shares,
        trace: args.trace.clone(),
    })
}

/// What only this lab has: where the agent lies, what is shared, and the parcel.
fn own_initramfs(args: &Args, shape: &Shape, terminal: bool) -> Result<Vec<u8>> {
    let command = if args.command.is_empty() {
        vec!["/bin/bash".into()]
    } else {
        args.command.clone()
    };
    let environment = std::env::vars_os().collect();
    let directory = std::env::current_dir().context("The working directory is gone")?;
    let mut archive = Archive::new();
    archive.file("lab/agent", 0o644, agent()?.as_os_str().as_bytes());
    for (index, share) in shape.shares.iter().enumerate() {
        archive.file(
            &format!("lab/share{}", index + 1),
            0o644,
            share.as_os_str().as_bytes(),
        );
    }
    let parcel = Parcel {
        terminal,
        directory,
        command,
        environment,
    };
    archive.file("lab/parcel", 0o644, &parcel.encode());
    Ok(archive.finish())
}

/// A copy of this program that the lab can start: the original may be rebuilt before the lab gets to it.
fn agent() -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let us = std::fs::metadata("/proc/self/exe")?;
    let home = workspace::target().join("lab/agents");
    std::fs::create_dir_all(&home)?;
    let path = home.join(format!("{}-{}-{}", us.ino(), us.mtime(), us.size()));
    if !path.exists() {
        for entry in std::fs::read_dir(&home)?.flatten() {
            let old = entry
                .metadata()
                .and_then(|data| data.modified())
                .is_ok_and(|time| {
                    time.elapsed()
                        .is_ok_and(|age| age > Duration::from_secs(24 * 3600))
                });
            if old {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let copy = tempfile::NamedTempFile::new_in(&home)?;
        std::fs::copy("/proc/self/exe", copy.path())?;
        copy.persist(&path)?;
    }
    Ok(path)
}

/// Our terminal, handing over every key as it is; as before when dropped.
struct RawTerminal(rustix::termios::Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(
            rustix::stdio::stdin(),
            rustix::termios::OptionalActions::Now,
            &raw,
        )?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), now, &self.0);
    }
}

//! A build for tests, with the feature `hostile`: a VMM that was taken over after its guest has booted. A line `hostile THREAD NUMBER`
//! of the guest's kernel chooses one of its threads and an act; the process's exit code tells what came of it.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::acts::{Act, acts, number};
use super::table::{KICK, Role, bits};
use crate::sys::hostile::call;

/// What it ends with where the act was done.
const DONE: u64 = 200;
/// Where there is no such thread or act.
const NOBODY: u64 = 201;

/// What threads are called, and their numbers once they are confined.
static THREADS: [(&str, AtomicU32); 4] = [
    ("first", AtomicU32::new(0)),
    ("vcpu", AtomicU32::new(0)),
    ("network", AtomicU32::new(0)),
    ("files", AtomicU32::new(0)),
];
/// Made before there are filters: what the table asks of its host would be refused, too.
static ACTS: OnceLock<Vec<Act>> = OnceLock::new();
/// What any thread may do: whoever is not killed for it could have done the others.
const NOTHING: Act = ("nothing", bits(libc::SYS_getpid), [0; 6]);
/// The thread and the act that were chosen.
static CHOSEN: OnceLock<(u32, Act)> = OnceLock::new();

/// Prints the acts' names, for who asks for `hull acts`.
pub(crate) fn list() -> ExitCode {
    for (name, ..) in acts() {
        println!("{name}");
    }
    ExitCode::SUCCESS
}

/// The calling thread is this from now on.
pub(super) fn remember(role: Role) {
    ACTS.get_or_init(acts);
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let name = match role {
        Role::Reactor | Role::Saver => "first",
        Role::Vcpu => "vcpu",
        Role::Network | Role::Tap => "network",
        Role::Files => "files",
    };
    for (_, thread) in THREADS.iter().filter(|(other, _)| *other == name) {
        thread.store(own.cast_unsigned(), Ordering::Relaxed);
    }
}

/// A line of the guest's kernel.
pub(crate) fn heard(line: &str) {
    let Some(words) = line.strip_prefix("hostile ") else {
        return;
    };
    let Some(chosen) = choose(words) else {
        return end(NOBODY);
    };
    let (own, thread) = (std::process::id().into(), chosen.0.into());
    if CHOSEN.set(chosen).is_ok() {
        let kick = [own, thread, KICK.into(), 0, 0, 0];
        let _ = call(number(libc::SYS_tgkill), kick);
    }
}

fn choose(words: &str) -> Option<(u32, Act)> {
    let (name, act) = words.split_once(' ')?;
    let (_, thread) = THREADS.iter().find(|(other, _)| *other == name)?;
    let act = match act.parse() {
        Ok(act) => *ACTS.get()?.get::<usize>(act)?,
        Err(_) => NOTHING,
    };
    match thread.load(Ordering::Relaxed) {
        0 => None,
        thread => Some((thread, act)),
    }
}

/// In the thread that was interrupted: does it, if it is the one.
pub(crate) fn interrupted() {
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    if let Some((thread, (_, act, arguments))) = CHOSEN.get()
        && *thread == own.cast_unsigned()
    {
        let outcome = call(*act, *arguments);
        end(outcome.map_or_else(|error| u64::from(error.cast_unsigned()), |_| DONE));
    }
}

fn end(code: u64) {
    let _ = call(number(libc::SYS_exit_group), [code, 0, 0, 0, 0, 0]);
}

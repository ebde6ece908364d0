//! What hull itself says on standard output and standard error. Either may be closed, full, or a pipe that nobody reads any more,
//! where the macros of the standard library panic: these, of the same names, do not.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use crate::failure::Failure;

/// As if SIGPIPE had ended it, which is what a shell tells of other programs then.
const NOBODY_READS: u8 = 128 + 13;

macro_rules! println {
    ($($words:tt)*) => { $crate::output::line(::std::format_args!($($words)*)) };
}

macro_rules! eprintln {
    ($($words:tt)*) => { $crate::output::note(::std::format_args!("{}\n", ::std::format_args!($($words)*))) };
}

macro_rules! eprint {
    ($($words:tt)*) => { $crate::output::note(::std::format_args!($($words)*)) };
}

/// Why a line of what was asked for could not be written; the first one's reason.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// A line of what was asked for. That it is lost stops no work; [`outcome`] tells it.
pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        let _ = LOST.set(error);
    }
}

/// What is said beside it. Where nobody hears it, the work goes on.
pub(crate) fn note(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// How a command ends that would have ended with `code` if all its lines had been written.
pub(crate) fn outcome(code: ExitCode) -> ExitCode {
    match LOST.get() {
        None => code,
        Some(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(NOBODY_READS),
        Some(error) => Failure::new(format!("Standard output cannot be written: {error}")).report(),
    }
}

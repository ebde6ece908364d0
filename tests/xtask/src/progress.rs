//! What xtask tells the person in front of it, always on standard error. Knows nothing of the steps themselves.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often a step that goes on says so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Says that a step begins, runs it, says now and then that it goes on, and at the end how long it took.
pub(crate) fn step<T>(what: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("    {what} …");
    let start = Instant::now();
    let (ended, wait_for_end) = channel::<()>();
    let name = what.to_owned();
    let signs = thread::spawn(move || {
        while wait_for_end.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "    {name}: {:.0} s so far …",
                start.elapsed().as_secs_f64()
            );
        }
    });
    let result = run();
    drop(ended);
    let _ = signs.join();
    let result = result?;
    eprintln!("    {what}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}

/// Says something that is worth a line.
pub(crate) fn note(text: &str) {
    eprintln!("    {text}");
}

/// Prints an error with its causes.
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("caused by: {cause}");
    }
}

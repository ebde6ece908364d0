//! What xtask tells the person in front of it, always on standard error. Knows nothing of the steps themselves.

use std::time::Instant;

/// Says that a step begins, runs it, and says how long it took.
pub(crate) fn step<T>(what: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("    {what} …");
    let start = Instant::now();
    let result = run()?;
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

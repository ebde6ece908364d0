//! What is to be seen of a run that does not end, for whoever reads of it afterwards. Knows hull's command line; judges nothing.

use std::ffi::OsStr;
use std::fmt::Write;
use std::process::Command;

use crate::run::{processes, program};

/// Seconds that a guest may take to say something.
const MOST: &str = "20";

/// What the guests of this store say of their time and their interrupts (`intr`), twice, to see whether it passes; and where in the kernel
/// each thread of hull's waits.
pub(crate) fn look(root: &OsStr) -> String {
    let mut seen = String::new();
    for _ in 0..2 {
        guests(root, &mut seen);
    }
    for process in processes() {
        let threads = std::fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let thread = thread.path();
            let at = std::fs::read_to_string(thread.join("wchan")).unwrap_or_default();
            let _ = writeln!(seen, "{} waits in {at}", thread.display());
        }
    }
    seen
}

fn guests(root: &OsStr, seen: &mut String) {
    for id in hull(root, &["ps", "--quiet"]).split_whitespace() {
        let asks = ["exec", id, "cat", "/proc/uptime", "/proc/stat"];
        let _ = writeln!(seen, "{id}: {}", hull(root, &asks));
    }
}

fn hull(root: &OsStr, words: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.arg(MOST).arg(program()).args(words);
    match command.env("HULL_ROOT", root).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).into_owned()
        }
        Err(error) => error.to_string(),
    }
}

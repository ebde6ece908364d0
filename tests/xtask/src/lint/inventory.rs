//! How often each file says `unsafe`, against `tests/unsafe.txt`: no more of it comes in without somebody having written the
//! number down. Knows words, not Rust.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Where the numbers are, below the workspace's root.
const FILE: &str = "tests/unsafe.txt";

/// Compares what is with what is written down.
pub(super) fn check(root: &Path, files: &[String]) -> Result<()> {
    let counted = count(root, files);
    let written = std::fs::read_to_string(root.join(FILE)).unwrap_or_default();
    if counted == written {
        return Ok(());
    }
    let mut differences = String::new();
    for (sign, these, those) in [('-', &written, &counted), ('+', &counted, &written)] {
        for line in these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
        {
            let _ = writeln!(differences, "{sign} {line}");
        }
    }
    bail!(
        "{FILE} does not say the same:\n{differences}If that is meant, `cargo xtask lint --count-unsafe` writes it down."
    )
}

/// Writes down what is.
pub(super) fn write(root: &Path, files: &[String]) -> Result<()> {
    let path = root.join(FILE);
    std::fs::write(&path, count(root, files)).with_context(|| format!("Cannot write {FILE}"))
}

/// A line for each file that has any.
fn count(root: &Path, files: &[String]) -> String {
    let mut lines = String::new();
    for name in files {
        // A file that was removed but not yet committed has none.
        let text = std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let number = occurrences(&text);
        if number > 0 {
            let _ = writeln!(lines, "{number:>3} {name}");
        }
    }
    lines
}

/// How often code says `unsafe`: blocks, functions, implementations and attributes. Comments do not count, nor what is
/// quoted or part of a longer word.
fn occurrences(text: &str) -> usize {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let part = |character: char| character.is_alphanumeric() || "_-./\"`".contains(character);
    code.flat_map(|line| line.split(|character| !part(character)))
        .filter(|word| *word == "unsafe")
        .count()
}

#[cfg(test)]
mod tests;

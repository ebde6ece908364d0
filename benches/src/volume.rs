//! A volume against the host's own file system: the same program in a guest and beside it. Knows what was promised of the two.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tests::bench::Target;

use crate::measure::{self, settle};
use crate::record::Record;
use crate::site::{PLAIN, Site};

/// Prints what each operation takes in the directory that is its argument.
const WORK: &str = include_str!("volume.py");
/// Per cent of the host's speed at which a large file is read and written at least, in large pieces.
const SHARE: f64 = 60.0;
/// Lab µs that an operation on an entry takes at most.
const LONGEST: f64 = 60.0;

/// Measures both.
pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let host = site.place().join("host");
    std::fs::create_dir(&host)?;
    let host = host.to_str().context("A temporary directory is text")?;
    let volume = format!("{host}:/volume");
    let mut inside = site.hull(&["run", "--rm"]);
    inside
        .args(PLAIN)
        .args(["--pull", "never", "--volume", &volume])
        .args(["python", "python3", "-c", WORK])
        .arg("/volume");
    let mut outside = Command::new("python3");
    outside.args(["-c", WORK, host]);
    settle();
    let (outside, inside) = (figures(&mut outside)?, figures(&mut inside)?);
    for ((unit, what, outside), (_, _, inside)) in outside.iter().zip(&inside) {
        match unit.as_str() {
            "megabytes" => {
                let share = 100.0 * inside / outside;
                let promised = what.contains("1024 KiB");
                let target = promised.then_some(Target::AtLeast(SHARE));
                let name = format!("{what}, to the host's own speed");
                record.add(&name, "hull", "%", vec![share], target);
            }
            _ => {
                let target = Some(Target::AtMost(LONGEST));
                record.add(what, "hull", "lab µs", vec![*inside], target);
                record.add(what, "process", "lab µs", vec![*outside], None);
            }
        }
    }
    Ok(())
}

/// What the work says: units, what was done, and figures.
fn figures(command: &mut Command) -> Result<Vec<(String, String, f64)>> {
    let output = command.stdin(Stdio::null()).output()?;
    measure::check(command, &output)?;
    let text = String::from_utf8(output.stdout)?;
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().context("A line of the work ends early");
        let (unit, figure, what) = (word()?, word()?, word()?);
        anyhow::Ok((unit.to_owned(), what.to_owned(), figure.parse()?))
    };
    text.lines().map(line).collect()
}

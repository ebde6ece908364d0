//! Results as pictures for the README: bars, without scripts or fonts of their own.

use std::fmt::Write as _;
use std::path::Path;

use ::tests::bench::Row;
use anyhow::{Context, Result};

use super::table::number;
use crate::progress;

#[cfg(test)]
mod tests;

/// Width of a picture, of the words on its left and of a figure on its right, in pixels.
const WIDTH: f64 = 860.0;
/// See [`WIDTH`].
const WORDS: f64 = 400.0;
/// See [`WIDTH`].
const FIGURE: f64 = 70.0;
/// Height of a bar with its distance to the next.
const LINE: f64 = 24.0;

/// One bar: what it stands for, how long it is, and whether it is hull's.
type Bar = (String, f64, bool);

/// A picture: its file, what it shows, and the bar of a row that belongs to it.
type Picture = (&'static str, &'static str, fn(&Row) -> Option<Bar>);

const PICTURES: [Picture; 6] = [
    (
        "start.svg",
        "Time from start to end, in ms of the clock that was measured with (shorter is better)",
        |row| {
            row.scenario
                .starts_with("start")
                .then(|| told(row, row.figure))
        },
    ),
    (
        "instructions.svg",
        "Millions of instructions of a run, all processes, taking it apart included (shorter is better)",
        |row| {
            let all = row.counts.get("all instructions")?;
            row.scenario
                .starts_with("start")
                .then(|| told(row, *all as f64 / 1e6))
        },
    ),
    (
        "many.svg",
        "Runs and copies that begin at once until the last has ended, in ms of the clock that was measured with (shorter is better)",
        |row| {
            let many = ["many", "clones"].contains(&row.scenario.as_str());
            many.then(|| told(row, row.figure))
        },
    ),
    (
        "overhead.svg",
        "The same work in hull as a multiple of crun's time (1 is none the slower)",
        |row| {
            let overhead = row.overhead?;
            let steady = STEADY.contains(&row.scenario.as_str()) && row.counts.is_empty();
            steady.then(|| (row.name.clone(), overhead, true))
        },
    ),
    (
        "memory.svg",
        "Memory of a container whose command waits, all processes, MiB (shorter is better)",
        |row| (row.scenario == "memory").then(|| told(row, row.figure)),
    ),
    (
        "network.svg",
        "The network of a guest, ms of the clock that was measured with (shorter is better)",
        |row| {
            let work = row.scenario == "network" && row.counts.is_empty();
            work.then(|| told(row, row.figure))
        },
    ),
];

/// A row's bar.
fn told(row: &Row, figure: f64) -> Bar {
    let name = format!("{}: {}", row.runtime, row.name);
    (name, figure, row.runtime == "hull")
}

/// Draws those pictures for which there are results.
pub(crate) fn draw(rows: &[Row], directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for (file, title, bar) in PICTURES {
        let bars: Vec<Bar> = rows.iter().filter_map(bar).collect();
        if bars.is_empty() {
            continue;
        }
        let file = directory.join(file);
        std::fs::write(&file, picture(title, &bars))
            .with_context(|| format!("Writing {}", file.display()))?;
        progress::note(&format!("Drawn: {}", file.display()));
    }
    Ok(())
}

/// The scenarios of work in a container that runs already.
const STEADY: [&str; 6] = [
    "cpu",
    "memory-bound",
    "syscall",
    "fork",
    "page-fault",
    "files",
];

fn picture(title: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    let height = LINE * (bars.len() as f64 + 2.0);
    // The ground is white, for a reader's page may be dark.
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"{LINE}\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    let mut top = LINE * 1.5;
    for (name, figure, ours) in bars {
        let length = (figure / longest * (WIDTH - WORDS - FIGURE)).max(1.0);
        let colour = if *ours { "#2a6fb0" } else { "#9aa3ab" };
        let (base, end) = (top + 15.0, WORDS + length + 6.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{WORDS}\" y=\"{top}\" width=\"{length:.1}\" height=\"18\" fill=\"{colour}\"/>\
             <text x=\"{end:.1}\" y=\"{base}\">{}</text>",
            WORDS - 8.0,
            escaped(name),
            number(*figure)
        );
        top += LINE;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text that XML takes for nothing else.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

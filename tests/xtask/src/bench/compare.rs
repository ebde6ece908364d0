//! What has changed between two results, and hull's beside crun's. Judges nothing: more is better in some rows and worse in
//! others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ::tests::bench::{Results, Row};

use super::table::number;

/// Changes smaller than this part are none.
const LEAST: f64 = 0.01;

/// The peer that runs the same work on the host's own kernel.
const PEER: &str = "crun";

#[cfg(test)]
mod tests;

/// Tells each row of hull's what part of crun's it is.
pub(crate) fn with_crun(rows: &mut [Row]) {
    let key = |row: &Row| (row.scenario.clone(), row.name.clone());
    let peers = rows.iter().filter(|row| row.runtime == PEER);
    let peers: BTreeMap<_, f64> = peers.map(|row| (key(row), row.figure)).collect();
    for row in rows.iter_mut().filter(|row| row.runtime == "hull") {
        row.overhead = peers.get(&key(row)).map(|peer| row.figure / peer);
    }
}

/// A line for each figure and count that is no longer what it was, or that only one of the two has.
pub(crate) fn changes(older: &Results, newer: &Results) -> String {
    let (before, after) = (figures(&older.results), figures(&newer.results));
    let mut changes = String::new();
    for (name, (now, unit)) in &after {
        let line = match before.get(name) {
            Some((then, _)) if (now - then).abs() <= then.abs() * LEAST => continue,
            Some((then, _)) => {
                let percent = (now / then - 1.0) * 100.0;
                format!(
                    "{} → {} {unit} ({percent:+.1} %)",
                    number(*then),
                    number(*now)
                )
            }
            None => format!("{} {unit} (new)", number(*now)),
        };
        let _ = writeln!(changes, "{name}: {line}");
    }
    // What was not measured this time has not gone.
    let who = |row: &Row| (row.scenario.clone(), row.runtime.clone());
    let measured = |row: &Row| newer.results.iter().any(|other| who(other) == who(row));
    let expected: Vec<Row> = older
        .results
        .iter()
        .filter(|row| measured(row))
        .cloned()
        .collect();
    for (name, (then, unit)) in figures(&expected) {
        if !after.contains_key(&name) {
            let _ = writeln!(changes, "{name}: was {} {unit} (gone)", number(then));
        }
    }
    if changes.is_empty() {
        changes.push_str("Nothing has changed by more than 1 %.\n");
    }
    format!("Since {}:\n{changes}", older.revision)
}

/// Figures and counts by what they are, each with its unit.
fn figures(rows: &[Row]) -> BTreeMap<String, (f64, String)> {
    let mut figures = BTreeMap::new();
    for row in rows {
        let name = format!("{}: {}, {}", row.scenario, row.name, row.runtime);
        for (count, number) in &row.counts {
            figures.insert(format!("{name}: {count}"), (*number as f64, String::new()));
        }
        figures.insert(name, (row.figure, row.unit.clone()));
    }
    figures
}

//! Results as a table for the terminal.

use std::fmt::Write as _;

use tests::bench::{Results, Row};

/// The peer that runs the same work on the host's own kernel.
const PEER: &str = "crun";

/// Each figure against its target, and hull's as a multiple of crun's where both did the same.
pub(crate) fn of(results: &Results) -> String {
    let mut table = String::new();
    let mut line = |cells: [&str; 7]| {
        let [scenario, name, runtime, figure, unit, target, ratio] = cells;
        let text = format!(
            "{scenario:<11} {name:<56} {runtime:<8} {figure:>8} {unit:<6} {target:>6} {ratio:>8}"
        );
        let _ = writeln!(table, "{}", text.trim_end());
    };
    line([
        "scenario", "what", "who", "figure", "unit", "target", "× crun",
    ]);
    for row in &results.results {
        let target = row.target.map(|target| target.to_string());
        let ratio = ratio(&results.results, row).map(|ratio| format!("{ratio:.2}"));
        let missed = row.target.is_some_and(|target| !target.met(row.figure));
        line([
            &row.scenario,
            &row.name,
            &row.runtime,
            &number(row.figure),
            &row.unit,
            &target.unwrap_or_default(),
            if missed {
                "MISSED"
            } else {
                ratio.as_deref().unwrap_or_default()
            },
        ]);
    }
    table
}

/// A whole number as it is, else two decimals.
pub(crate) fn number(figure: f64) -> String {
    let decimals = if figure.fract() == 0.0 { 0 } else { 2 };
    format!("{figure:.decimals$}")
}

/// How much of what crun needs for the same work hull needs.
pub(crate) fn ratio(rows: &[Row], row: &Row) -> Option<f64> {
    let same = |other: &&Row| {
        (&other.scenario, &other.name, other.runtime.as_str()) == (&row.scenario, &row.name, PEER)
    };
    let peer = rows.iter().find(same)?;
    (row.runtime == "hull").then(|| row.figure / peer.figure)
}

//! Results as a table for the terminal.

use std::fmt::Write as _;

use tests::bench::{Results, Row};

/// Each figure against its target, and hull's as a multiple of crun's where both did the same.
pub(crate) fn of(results: &Results) -> String {
    let mut table = format!("{}: {}\n", results.revision, results.machine);
    let mut line = |cells: [&str; 8]| {
        let [scenario, name, runtime, figure, unit, spread, target, ratio] = cells;
        let text = format!(
            "{scenario:<11} {name:<56} {runtime:<8} {figure:>8} {unit:<6} {spread:>6} {target:>6} {ratio:>8}"
        );
        let _ = writeln!(table, "{}", text.trim_end());
    };
    line([
        "scenario", "what", "who", "figure", "unit", "spread", "target", "× crun",
    ]);
    // A profile is shown as what it is.
    for row in results
        .results
        .iter()
        .filter(|row| !row.scenario.starts_with("profile"))
    {
        let target = row.target.map(|target| target.to_string());
        let ratio = row.overhead.map(|ratio| format!("{ratio:.2}"));
        let missed = row.target.is_some_and(|target| !target.met(row.figure));
        line([
            &row.scenario,
            &row.name,
            &row.runtime,
            &number(row.figure),
            &row.unit,
            &spread(row).unwrap_or_default(),
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

/// How far a quarter of a machine's samples is above the median, and a quarter below, at most. In the lab the shortest counts.
fn spread(row: &Row) -> Option<String> {
    let mut sorted = row.samples.clone();
    sorted.sort_by(f64::total_cmp);
    let quarter = sorted.len() / 4;
    let (low, high) = (sorted.get(quarter)?, sorted.iter().rev().nth(quarter)?);
    let spread = f64::max(high - row.figure, row.figure - low);
    (row.unit == "ms").then(|| format!("±{spread:.2}"))
}

/// A whole number as it is, else two decimals.
pub(crate) fn number(figure: f64) -> String {
    let decimals = if figure.fract() == 0.0 { 0 } else { 2 };
    format!("{figure:.decimals$}")
}

//! Whether what is counted has grown since somebody last looked. Knows the short set that is run for that, and no test.

use std::fmt::Write as _;

use ::tests::bench::{Baseline, Known, Row};
use anyhow::{Context, Result, bail, ensure};

use crate::{build, progress, workspace};

#[cfg(test)]
mod tests;

/// What is run.
const SHORT: [&str; 6] = [
    "start",
    "start-warm",
    "exec",
    "files",
    "profile",
    "profile-warm",
];

/// What a start from a template consists of.
const WARM: [&str; 5] = [
    "launcher;VMM start",
    "VMM;restore",
    "guest;init",
    "guest;workload",
    "VMM;teardown",
];
/// What any other does; of the kernel's initcalls the first that its clock can time, and a late one.
const PARTS: [&str; 8] = [
    "launcher;VMM start",
    "VMM;machine",
    "guest;kernel;before",
    "guest;kernel;initcalls;clocksource_done_booting",
    "guest;kernel;initcalls;virtio_blk_init",
    "guest;init",
    "guest;workload",
    "VMM;teardown",
];

/// Counts, compares, and tells what has grown.
pub(crate) fn run() -> Result<()> {
    let program = super::prepare(&build::ensure()?, "debug")?;
    let file = workspace::root().join("benches/baseline.json");
    let text = std::fs::read(&file).with_context(|| format!("Reading {}", file.display()))?;
    let baseline = serde_json::from_slice(&text)?;
    let count = || {
        let rows = super::in_lab(&program, "counts", "", &SHORT)?;
        // For whoever has to change the baseline.
        let counted = super::home().join("counts.json");
        std::fs::write(&counted, serde_json::to_string_pretty(&rows)?)?;
        complete(&rows)?;
        grown(&baseline, &rows)
    };
    let mut more = count()?;
    if !more.is_empty() {
        // Beside a busy machine something may happen once in a while that is no part of a start. What has grown has grown again.
        progress::note(&format!("Counting once more, for there were:\n{more}"));
        more = count()?;
    }
    if !more.is_empty() {
        bail!(
            "More than benches/baseline.json has, and its slack:\n{more}Who means this changes that file, and says why in the \
             commit."
        );
    }
    progress::note("No count has grown beyond its slack.");
    Ok(())
}

/// Fails unless the profiles of starts have all that a start consists of.
fn complete(rows: &[Row]) -> Result<()> {
    for (scenario, parts) in [("profile", &PARTS[..]), ("profile-warm", &WARM)] {
        let profile = rows.iter().filter(|row| row.scenario == scenario);
        let names: Vec<&str> = profile.map(|row| row.name.as_str()).collect();
        for part in parts {
            let told = names.iter().any(|name| name.starts_with(part));
            ensure!(told, "The {scenario} of a start lacks {part}: {names:?}");
        }
    }
    Ok(())
}

/// A line for each count that is more than it may be; and an error where one that is known was not counted at all.
fn grown(baseline: &Baseline, rows: &[Row]) -> Result<String> {
    let mut grown = String::new();
    // Others are compared by the end-to-end tests, which look at what each run tells of itself.
    let ours = baseline.iter().filter(|(run, _)| run.contains(": "));
    for (run, known) in ours {
        let row = rows
            .iter()
            .find(|row| format!("{}: {}", row.scenario, row.name) == *run);
        let row = row.with_context(|| format!("Nothing was measured of {run}"))?;
        for (name, Known { count, slack }) in known {
            // What does not happen any more is not counted.
            let now = row.counts.get(name).copied().unwrap_or(0);
            if now > count + slack {
                let _ = writeln!(
                    grown,
                    "  {run}: {name}: {now}, were {count} with a slack of {slack}"
                );
            }
        }
        ensure!(!row.counts.is_empty(), "Nothing was counted of {run}");
    }
    Ok(grown)
}

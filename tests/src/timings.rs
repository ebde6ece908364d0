//! Reads what `hull run --timings` prints.

use std::collections::BTreeMap;

/// The number that follows a row's name.
#[must_use]
pub fn figure<T: std::str::FromStr>(timings: &str, row: &str) -> Option<T> {
    let line = timings.lines().find_map(|line| line.strip_prefix(row))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What was counted: exits by reason, kicks, and KiB of guest memory touched.
#[must_use]
pub fn counts(timings: &str) -> BTreeMap<String, u64> {
    let rows = ["kicks", "memory touched"];
    let mut counts: BTreeMap<String, u64> = rows
        .into_iter()
        .filter_map(|row| Some((row.to_owned(), figure(timings, row)?)))
        .collect();
    // exits   284     port 69, mmio 214, …
    let exits = timings.lines().find_map(|line| line.strip_prefix("exits"));
    let reasons = exits.and_then(|rest| rest.trim_start().split_once(' '));
    for reason in reasons.map_or("", |(_, reasons)| reasons).split(',') {
        if let Some((name, count)) = reason.trim().rsplit_once(' ')
            && let Ok(count) = count.parse()
        {
            counts.insert(format!("{name} exits"), count);
        }
    }
    counts
}

//! Rows as they are measured. Knows no scenario.

use std::collections::BTreeMap;

use anyhow::Result;
use tests::bench::{Row, Target};

/// The rows so far.
pub(crate) struct Record {
    scenario: String,
    rows: Vec<Row>,
}

impl Record {
    /// Without a row.
    pub(crate) fn new() -> Self {
        Self {
            scenario: String::new(),
            rows: Vec::new(),
        }
    }

    /// What is added from now on belongs to this scenario.
    pub(crate) fn begin(&mut self, scenario: &str) {
        eprintln!("    Measuring {scenario} …");
        scenario.clone_into(&mut self.scenario);
    }

    /// Adds what was measured; the best of the samples is the figure.
    pub(crate) fn add(
        &mut self,
        name: &str,
        runtime: &str,
        unit: &str,
        samples: Vec<f64>,
        target: Option<Target>,
    ) -> &mut Row {
        let more_is_better = matches!(target, Some(Target::AtLeast(_)));
        let better = if more_is_better { f64::max } else { f64::min };
        let figure = samples.iter().copied().reduce(better).unwrap_or(f64::NAN);
        self.rows.push_mut(Row {
            scenario: self.scenario.clone(),
            name: name.to_owned(),
            runtime: runtime.to_owned(),
            unit: unit.to_owned(),
            samples,
            figure,
            target,
            counts: BTreeMap::new(),
        })
    }

    /// All rows, as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.rows)?)
    }
}

//! Rows as they are measured, and whose clock that is. Knows no scenario.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tests::bench::{Row, Target};

/// Whose clock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The lab's, which counts instructions: the shortest of some runs is the one that waited for nobody.
    Lab,
    /// The same, where only what is counted matters: as few runs as do.
    Counts,
    /// This machine's: the median of more runs.
    Machine,
}

impl Clock {
    /// What times are in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Lab | Self::Counts => "lab ms",
            Self::Machine => "ms",
        }
    }

    /// What a nanosecond of it is.
    pub(crate) fn of_nanoseconds(self) -> &'static str {
        match self {
            Self::Lab | Self::Counts => "instructions",
            Self::Machine => "nanoseconds",
        }
    }

    /// Runs that count.
    pub(crate) fn runs(self) -> usize {
        match self {
            Self::Lab => 7,
            Self::Counts => 1,
            Self::Machine => 15,
        }
    }

    /// Containers of each runtime that do the same work and count.
    pub(crate) fn containers(self) -> usize {
        match self {
            Self::Lab => 3,
            Self::Counts => 1,
            Self::Machine => 7,
        }
    }
}

/// The rows so far.
pub(crate) struct Record {
    file: PathBuf,
    clock: Clock,
    scenario: String,
    rows: Vec<Row>,
}

impl Record {
    /// Without a row.
    pub(crate) fn new(clock: Clock, file: PathBuf) -> Self {
        Self {
            file,
            clock,
            scenario: String::new(),
            rows: Vec::new(),
        }
    }

    /// Whose clock measures.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// What is added from now on belongs to this scenario.
    pub(crate) fn begin(&mut self, scenario: &str) {
        eprintln!("    Measuring {scenario} …");
        scenario.clone_into(&mut self.scenario);
    }

    /// Adds times, in milliseconds of the clock. What is promised is promised for the lab's.
    pub(crate) fn time(
        &mut self,
        name: &str,
        runtime: &str,
        samples: Vec<f64>,
        target: Option<Target>,
    ) -> &mut Row {
        let target = target.filter(|_| self.clock == Clock::Lab);
        self.add(name, runtime, self.clock.unit(), samples, target)
    }

    /// Adds what was measured: of the lab's samples the best is the figure, of a machine's the median.
    pub(crate) fn add(
        &mut self,
        name: &str,
        runtime: &str,
        unit: &str,
        samples: Vec<f64>,
        target: Option<Target>,
    ) -> &mut Row {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let more_is_better = matches!(target, Some(Target::AtLeast(_)));
        let figure = match self.clock {
            Clock::Machine => sorted.get(sorted.len() / 2),
            _ if more_is_better => sorted.last(),
            _ => sorted.first(),
        };
        let figure = figure.copied().unwrap_or(f64::NAN);
        // Should this scenario never end, there is what it has measured so far.
        let _ = self.write();
        eprintln!("      {figure:.2} {unit}, {runtime}: {name}");
        self.rows.push_mut(Row {
            scenario: self.scenario.clone(),
            name: name.to_owned(),
            runtime: runtime.to_owned(),
            unit: unit.to_owned(),
            figure,
            samples,
            target,
            overhead: None,
            counts: BTreeMap::new(),
        })
    }

    /// Writes all rows into the file, as JSON.
    pub(crate) fn write(&self) -> Result<()> {
        let rows = serde_json::to_string_pretty(&self.rows)?;
        let file = &self.file;
        std::fs::write(file, rows).with_context(|| format!("Writing {}", file.display()))
    }
}

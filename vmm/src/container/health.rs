//! The health of a container: how it is asked for and what is known of it. Knows not how it is checked.

use std::fmt;
use std::time::Duration;

use image::Execution;
use protocol::Bytes;
use serde::{Deserialize, Serialize};

/// How health is checked; times in milliseconds, 0 is docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    pub(crate) interval: u64,
    pub(crate) timeout: u64,
    pub(crate) start_period: u64,
    /// Failures in a row after which it is unhealthy.
    pub(crate) retries: u32,
}

impl Check {
    /// The image's own, if it has one.
    pub(crate) fn of_image(image: &Execution) -> Option<Self> {
        let check = image.healthcheck.as_ref()?;
        let milliseconds = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
        let command = match check.test.split_first() {
            Some((word, rest)) if word == "CMD" && !rest.is_empty() => rest.to_vec(),
            Some((word, [line, ..])) if word == "CMD-SHELL" => Self::shell(line),
            _ => return None,
        };
        Some(Self {
            command,
            interval: milliseconds(check.interval),
            timeout: milliseconds(check.timeout),
            start_period: milliseconds(check.start_period),
            retries: u32::try_from(check.retries).unwrap_or(0),
        })
    }

    /// A line for the shell.
    pub(crate) fn shell(line: &str) -> Vec<String> {
        ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
    }

    pub(crate) fn command(&self) -> Vec<Bytes> {
        self.command
            .iter()
            .map(|word| word.as_str().into())
            .collect()
    }

    pub(crate) fn interval(&self) -> Duration {
        or_half_a_minute(self.interval)
    }

    pub(crate) fn timeout(&self) -> Duration {
        or_half_a_minute(self.timeout)
    }

    pub(crate) fn start_period(&self) -> Duration {
        Duration::from_millis(self.start_period)
    }

    pub(crate) fn retries(&self) -> u32 {
        match self.retries {
            0 => 3,
            some => some,
        }
    }
}

fn or_half_a_minute(milliseconds: u64) -> Duration {
    match milliseconds {
        0 => Duration::from_secs(30),
        some => Duration::from_millis(some),
    }
}

/// What is known of a container's health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) verdict: Verdict,
    /// Failures in a row.
    pub(crate) streak: u32,
}

/// What the checks say so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// None has succeeded, and too few have failed.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

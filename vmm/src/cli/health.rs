//! The flags of run and create about health checks, and what they make of the image's own.

use std::str::FromStr;

use image::Execution;

use crate::container::Check;

#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Check the container's health by this line for its shell, instead of the image's HEALTHCHECK
    #[arg(long, value_name = "LINE", conflicts_with = "no_healthcheck")]
    health_cmd: Option<String>,
    /// Time from one check to the next, as 30s or 1m30s [default: 30s]
    #[arg(long, value_name = "TIME")]
    health_interval: Option<Span>,
    /// Time that a check may take [default: 30s]
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<Span>,
    /// Failures in a row after which the container is unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// Time after the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<Span>,
    /// Leave the image's HEALTHCHECK out
    #[arg(long)]
    no_healthcheck: bool,
}

/// Milliseconds, as Go writes a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(u64);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "no time: write 30s, 1m30s, 500ms or 2h";
        let (mut total, mut rest) = (0_u64, text);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(wrong)?;
            let (number, after) = rest.split_at(digits);
            let unit = after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit);
            let scale = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(wrong),
            };
            let number: u64 = number.parse().map_err(|_| wrong)?;
            let span = number.checked_mul(scale).ok_or(wrong)?;
            total = total.checked_add(span).ok_or(wrong)?;
            rest = after;
        }
        match text.is_empty() {
            true => Err(wrong),
            false => Ok(Self(total)),
        }
    }
}

impl Flags {
    /// How health is checked: as the image says, but for what was typed.
    pub(super) fn check(&self, image: &Execution) -> Option<Check> {
        if self.no_healthcheck {
            return None;
        }
        let mut check = Check::of_image(image);
        if let Some(line) = &self.health_cmd {
            check.get_or_insert_default().command = Check::shell(line);
        }
        let mut check = check?;
        let spans = [
            (&mut check.interval, self.health_interval),
            (&mut check.timeout, self.health_timeout),
            (&mut check.start_period, self.health_start_period),
        ];
        for (place, span) in spans {
            if let Some(Span(milliseconds)) = span {
                *place = milliseconds;
            }
        }
        check.retries = self.health_retries.unwrap_or(check.retries);
        Some(check)
    }
}

#[cfg(test)]
mod tests;

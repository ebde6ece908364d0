//! Prints figures as they come, each against its target. Knows no scenario.

/// The figures so far.
pub(crate) struct Table;

/// What a figure should be.
pub(crate) enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// For comparison only.
    None,
}

impl Table {
    /// A table with its head.
    pub(crate) fn new() -> Self {
        println!(
            "{:<58} {:>10} {:<6} {:>9}",
            "what", "figure", "unit", "target"
        );
        Self
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, what: &str, figure: f64, unit: &str, target: &Target) {
        let decimals = if figure.fract() == 0.0 { 0 } else { 2 };
        let (target, met) = match target {
            Target::AtMost(most) => (format!("≤ {most}"), figure <= *most),
            Target::AtLeast(least) => (format!("≥ {least}"), figure >= *least),
            Target::None => (String::new(), true),
        };
        let missed = if met { "" } else { "  MISSED" };
        println!("{what:<58} {figure:>10.decimals$} {unit:<6} {target:>9}{missed}");
    }
}

//! How a transfer looks: bars on a terminal, lines elsewhere, both on standard error. Knows no registry.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use image::Digest;
use image::registry::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::escaped;

/// A bar for each layer.
pub(crate) struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

/// A line for each thing that happens.
#[derive(Default)]
pub(crate) struct Lines {
    sent: Mutex<()>,
}

/// The first figures of a digest, as docker shows them.
fn short(layer: &Digest) -> String {
    layer.hex().chars().take(12).collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            layers: Mutex::default(),
        }
    }

    fn bar(&self, layer: &Digest) -> Option<ProgressBar> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.get(layer).cloned()
    }

    fn line(&self, text: &str) {
        // Without a terminal to print above the bars there is nobody to tell.
        let _ = self.all.println(escaped(text));
    }
}

impl Progress for Bars {
    fn begins(&self, layer: &Digest, size: u64) {
        let bar = self.all.add(ProgressBar::new(size));
        bar.set_style(style(
            "{prefix} [{bar:30}] {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12}",
        ));
        bar.set_prefix(short(layer));
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(*layer, bar);
    }

    fn moves(&self, layer: &Digest, bytes: u64) {
        if let Some(bar) = self.bar(layer) {
            bar.set_position(bytes);
        }
    }

    fn ends(&self, layer: &Digest, already: bool) {
        if let Some(bar) = self.bar(layer) {
            bar.set_style(style("{prefix} {msg}"));
            bar.finish_with_message(if already {
                "is there already"
            } else {
                "complete"
            });
        }
    }

    fn waiting(&self, host: &str, reason: &str, pause: Duration) {
        self.line(&waits(host, reason, pause));
    }

    fn note(&self, text: &str) {
        self.line(&format!("note: {text}"));
    }
}

impl Lines {
    fn line(&self, text: &str) {
        let _one = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("{}", escaped(text));
    }
}

impl Progress for Lines {
    fn begins(&self, _: &Digest, _: u64) {}

    fn moves(&self, _: &Digest, _: u64) {}

    fn ends(&self, layer: &Digest, already: bool) {
        let how = if already {
            "is there already"
        } else {
            "complete"
        };
        self.line(&format!("{} {how}", short(layer)));
    }

    fn waiting(&self, host: &str, reason: &str, pause: Duration) {
        self.line(&waits(host, reason, pause));
    }

    fn note(&self, text: &str) {
        self.line(&format!("note: {text}"));
    }
}

fn waits(host: &str, reason: &str, pause: Duration) -> String {
    let seconds = pause.as_secs_f32();
    format!("{host}: {reason}; again in {seconds:.1} s")
}

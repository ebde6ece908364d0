//! How a transfer tells whoever watches. Knows no transfer and no terminal.

use std::time::Duration;

use crate::Digest;

/// Is told how a transfer goes. Called from several threads.
pub trait Progress: Send + Sync {
    /// `layer` is about to be fetched or sent; `size` is its length in bytes.
    fn begins(&self, layer: &Digest, size: u64);
    /// `bytes` of `layer` are through.
    fn moves(&self, layer: &Digest, bytes: u64);
    /// `layer` is complete and verified. `already` says that it was there before.
    fn ends(&self, layer: &Digest, already: bool);
    /// A request failed and is tried again after `pause`.
    fn waiting(&self, host: &str, reason: &str, pause: Duration);
    /// Something a user may want to know: a mirror that failed.
    fn note(&self, text: &str);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn begins(&self, _: &Digest, _: u64) {}
    fn moves(&self, _: &Digest, _: u64) {}
    fn ends(&self, _: &Digest, _: bool) {}
    fn waiting(&self, _: &str, _: &str, _: Duration) {}
    fn note(&self, _: &str) {}
}

//! How fast bytes may pass in one direction: a bucket of tokens, written as the time until which what has passed keeps the line
//! busy. Knows no clock; whoever asks says what time it is, in nanoseconds.

/// Bytes a second of the slowest line: the longest packet is eight seconds on it.
pub const SLOWEST: u64 = 8 << 10;

/// How much of its time a line that was idle may make good at once.
const BURST: u64 = 100_000_000;
const SECOND: u64 = 1_000_000_000;

/// One direction of a line.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    busy_until: u64,
}

impl Pace {
    /// A line of so many bytes a second.
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(SLOWEST),
            busy_until: 0,
        }
    }

    /// When the next packet may pass, if not now. One that may pass does so whole: the next ones wait for it.
    pub(crate) fn wait(&self, now: u64) -> Option<u64> {
        (self.busy_until > now).then_some(self.busy_until)
    }

    /// So many bytes pass.
    pub(crate) fn pass(&mut self, now: u64, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let time = bytes.saturating_mul(SECOND).checked_div(self.rate);
        let from = self.busy_until.max(now.saturating_sub(BURST));
        self.busy_until = from.saturating_add(time.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests;

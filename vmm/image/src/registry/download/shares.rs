//! Which connection fetches what: always what is needed next, so that the layer at the front, which somebody converts, gets
//! the whole of the link. Knows no network.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is left is divided by this for the next part.
const DIVISOR: u64 = 32;
/// The smallest and the largest part, in bytes: each costs a request, and the last ones are converted when all have arrived.
const PART: std::ops::RangeInclusive<u64> = 2 << 20..=16 << 20;

/// A part of a layer, for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    /// Which layer.
    pub(super) layer: usize,
    /// Which of its bytes.
    pub(super) range: std::ops::Range<u64>,
}

/// What nobody fetches yet.
#[derive(Debug)]
pub(super) struct Shares {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    layers: Vec<Left>,
    stopped: bool,
}

#[derive(Debug)]
struct Left {
    size: u64,
    /// All before this is given away.
    given: u64,
    /// Nothing of it is given away yet.
    whole: bool,
    /// Whether its server sends parts; none before its first answer.
    in_parts: Option<bool>,
}

impl Shares {
    /// All of layers of these sizes.
    pub(super) fn new(sizes: impl Iterator<Item = u64>) -> Self {
        let left = |size| Left {
            size,
            given: 0,
            whole: true,
            in_parts: None,
        };
        Self {
            state: Mutex::new(State {
                layers: sizes.map(left).collect(),
                stopped: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// What to fetch next. Waits while that depends on an answer that others await; none at the end.
    pub(super) fn next(&self) -> Option<Share> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(share) = state.next() {
                return Some(share);
            }
            if state.layers.iter().all(Left::is_given) {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The layer's server has answered its first request: with the part it was asked for, or with everything.
    pub(super) fn answered(&self, layer: usize, in_parts: bool) {
        let mut state = self.lock();
        if let Some(left) = state.layers.get_mut(layer) {
            left.in_parts = Some(in_parts);
            if !in_parts {
                left.given = left.size;
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Nothing more is to be fetched.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether nothing more is to be fetched.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Share> {
        let left: u64 = self.layers.iter().map(|left| left.size - left.given).sum();
        let part = (left / DIVISOR).clamp(*PART.start(), *PART.end());
        let (layer, next) = self
            .layers
            .iter_mut()
            .enumerate()
            .find(|(_, left)| left.whole || left.in_parts == Some(true) && !left.is_given())?;
        let start = next.given;
        // No tiny rest.
        next.given = match next.size - start {
            rest if rest <= part + part / 2 => next.size,
            _ => start + part,
        };
        next.whole = false;
        let range = start..next.given;
        Some(Share { layer, range })
    }
}

impl Left {
    fn is_given(&self) -> bool {
        !self.whole && self.given == self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn share(layer: usize, range: std::ops::Range<u64>) -> Option<Share> {
        Some(Share { layer, range })
    }

    #[test]
    fn the_front_comes_first_once_its_server_is_known_to_send_parts() {
        let shares = Shares::new([5 * MIB, 10, 0, 4 * MIB].into_iter());
        assert_eq!(shares.next(), share(0, 0..2 * MIB));
        // Meanwhile the others' beginnings; a small layer and an empty one are whole.
        assert_eq!(shares.next(), share(1, 0..10));
        shares.answered(0, true);
        assert_eq!(shares.next(), share(0, 2 * MIB..5 * MIB));
        assert_eq!(shares.next(), share(2, 0..0));
        assert_eq!(shares.next(), share(3, 0..2 * MIB));
        shares.answered(3, false);
        assert_eq!(shares.next(), None);
    }

    #[test]
    fn parts_become_smaller_towards_the_end() {
        let shares = Shares::new([1024 * MIB].into_iter());
        let mut sizes = Vec::new();
        while let Some(Share { range, .. }) = shares.next() {
            shares.answered(0, true);
            sizes.push(range.end - range.start);
        }
        assert_eq!(sizes.iter().sum::<u64>(), 1024 * MIB);
        assert!(sizes[0] == 16 * MIB && sizes.is_sorted_by(|a, b| b <= a || *b < 3 * MIB));
        assert!(
            sizes.len() < 150 && *sizes.last().unwrap() < 4 * MIB,
            "{sizes:?}"
        );
    }

    #[test]
    fn stopping_ends_a_wait() {
        let shares = std::sync::Arc::new(Shares::new([100 * MIB].into_iter()));
        shares.next().unwrap();
        let waiting = shares.clone();
        let waiter = std::thread::spawn(move || waiting.next());
        shares.stop();
        assert_eq!(waiter.join().unwrap(), None);
    }
}

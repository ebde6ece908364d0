//! The keys that take a user's terminal away from a command without ending it, as docker writes them. Knows no terminal.

use std::str::FromStr;

/// docker's own.
pub(crate) const DETACH: &str = "ctrl-p,ctrl-q";

/// A sequence of typed bytes, one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

/// What is no sequence of keys.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no key: write single characters, and ctrl- with a letter or one of @ [ \\ ] ^ _, with commas between, as {DETACH}"
)]
pub(crate) struct KeysError(String);

impl FromStr for Keys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        // As docker: none are its own.
        let text = if text.is_empty() { DETACH } else { text };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// The byte that a terminal sends for a key.
fn key(name: &str) -> Result<u8, KeysError> {
    match (
        name.as_bytes(),
        name.strip_prefix("ctrl-").map(str::as_bytes),
    ) {
        ([byte], _) => Ok(*byte),
        (_, Some([byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')])) => Ok(byte & 0x1f),
        _ => Err(KeysError(name.to_owned())),
    }
}

/// Keys that are looked for in what is typed.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Keys,
    /// What was typed of them and is held back.
    held: Vec<u8>,
}

impl Watch {
    /// Nothing has been typed.
    pub(crate) fn new(keys: Keys) -> Self {
        let held = Vec::new();
        Self { keys, held }
    }

    /// All of them were typed.
    pub(crate) fn is_over(&self) -> bool {
        self.held == self.keys.0
    }

    /// What goes to the command of what was typed: all but the keys, and nothing behind them.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(typed.len() + self.held.len());
        for byte in typed {
            self.held.push(*byte);
            while !self.keys.0.starts_with(&self.held) {
                // Held back in vain.
                passed.push(self.held.remove(0));
            }
            if self.is_over() {
                break;
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests;

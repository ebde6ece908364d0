//! The environment a process gets: what it was given, and what docker adds. Knows no system call.

use alloc::vec::Vec;

/// Docker's PATH for an image that says none.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a process, `KEY=VALUE` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment(Vec<Vec<u8>>);

impl Environment {
    /// Adds PATH, HOSTNAME and, with a terminal, TERM in front where they are not set, and HOME at the end where it is
    /// not set or empty.
    #[must_use]
    pub fn new(
        given: impl IntoIterator<Item = Vec<u8>>,
        hostname: &[u8],
        home: &[u8],
        terminal: bool,
    ) -> Self {
        let given: Vec<_> = given.into_iter().collect();
        let mut all = Vec::new();
        let term = terminal.then_some((b"TERM".as_slice(), b"xterm".as_slice()));
        let names = [(b"PATH".as_slice(), DEFAULT_PATH), (b"HOSTNAME", hostname)];
        for (key, value) in names.into_iter().chain(term) {
            if find(&given, key).is_none() {
                all.push(entry(key, value));
            }
        }
        all.extend(given);
        if find(&all, b"HOME").is_none_or(<[u8]>::is_empty) {
            all.retain(|entry| !entry.starts_with(b"HOME="));
            all.push(entry(b"HOME", home));
        }
        Self(all)
    }

    /// The value of PATH; it is always set.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        find(&self.0, b"PATH").unwrap_or(DEFAULT_PATH)
    }

    /// The entries.
    #[must_use]
    pub fn into_entries(self) -> Vec<Vec<u8>> {
        self.0
    }
}

fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    [key, b"=", value].concat()
}

/// The value of the last entry with this key, which is what most programs see.
fn find<'a>(entries: &'a [Vec<u8>], key: &[u8]) -> Option<&'a [u8]> {
    entries
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix(key)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;

//! PAX extended headers: `LENGTH KEY=VALUE\n` records. Keeps the keys that layers use.

use super::{MAX_PATH, MAX_XATTR, TarError, Time, sparse};

/// Most extended attributes of one file; ext4 has room for far fewer.
const MAX_XATTRS: usize = 1000;

/// What the records before an entry say of it.
#[derive(Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: sparse::Pax,
}

impl Records {
    /// Reads all records of the extended header that starts at byte `at`.
    pub(super) fn parse(mut bytes: &[u8], at: u64) -> Result<Self, TarError> {
        let mut records = Self::default();
        while bytes.first().is_some_and(|byte| *byte != 0) {
            let (key, value, rest) = record(bytes).ok_or(TarError::Pax(at))?;
            records.set(key, value, at)?;
            bytes = rest;
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        let wrong = |field| TarError::Number { field, at };
        match key {
            // An empty value takes a global record back: the header counts again.
            b"path" => self.path = text(value, at)?,
            b"linkpath" => self.link = text(value, at)?,
            b"size" => self.size = optional(value).ok_or(wrong("size"))?,
            b"uid" => self.uid = optional(value).ok_or(wrong("uid"))?,
            b"gid" => self.gid = optional(value).ok_or(wrong("gid"))?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or(wrong("mtime"))?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value, at)?;
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(name, value).ok_or(TarError::Sparse(at))?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > MAX_XATTR {
            return Err(TarError::Pax(at));
        }
        if self.xattrs.len() >= MAX_XATTRS {
            return Err(TarError::Pax(at));
        }
        match self.xattrs.iter_mut().find(|(there, _)| there == name) {
            Some((_, there)) => *there = value.to_vec(),
            None => self.xattrs.push((name.to_vec(), value.to_vec())),
        }
        Ok(())
    }
}

/// Key, value and what follows of the first record.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = decimal(bytes.get(..space)?)?;
    let record = bytes.get(..length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, value, bytes.get(length..)?))
}

fn text(value: &[u8], at: u64) -> Result<Option<Vec<u8>>, TarError> {
    match value {
        [] => Ok(None),
        value if value.contains(&0) => Err(TarError::Pax(at)),
        value if value.len() > MAX_PATH => Err(TarError::Name {
            at,
            bytes: value.len(),
        }),
        value => Ok(Some(value.to_vec())),
    }
}

/// A decimal number without sign, or nothing for an empty value.
#[expect(
    clippy::option_option,
    reason = "absent and malformed are different answers"
)]
fn optional<T: std::str::FromStr>(value: &[u8]) -> Option<Option<T>> {
    if value.is_empty() {
        Some(None)
    } else {
        decimal(value).map(Some)
    }
}

/// Decimal digits and nothing else.
pub(super) fn decimal<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are dropped.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds: i64 = decimal(parts.next()?)?;
    let mut nanoseconds = 0_u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for position in 0..9 {
            let digit = fraction.get(position).map_or(0, |byte| byte - b'0');
            nanoseconds = nanoseconds * 10 + u32::from(digit);
        }
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Time {
            seconds: (-seconds).checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

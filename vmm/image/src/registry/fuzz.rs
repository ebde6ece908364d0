//! The body of the fuzz target for all that a registry, a credentials file or a user can write. Refuses to know what is
//! right: nothing may panic, what is accepted reads back the same, and what is shown is fit for a terminal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::url::Url;
use super::{challenge, document, hosts, text};
use crate::reference::{Reference, Source};
use crate::{Platform, credentials, trust};

#[cfg(test)]
mod tests;

/// The first byte chooses the parser, the rest is its input.
pub fn registry(bytes: &[u8]) {
    let Some((choice, input)) = bytes.split_first() else {
        return;
    };
    let lossy = String::from_utf8_lossy(input);
    match choice % 8 {
        0 => name(input),
        1 => {
            let _ = challenge::read(lossy.split('\n'));
        }
        2 => url(&lossy),
        3 => {
            for shown in [text::printable(&lossy, 200), text::refusal(input)] {
                assert!(!shown.contains(char::is_control), "{shown:?}");
                assert!(shown.len() < 16 * 1024, "{}", shown.len());
            }
        }
        4 => {
            let (header, body) = lossy.split_once('\n').unwrap_or((&lossy, ""));
            if let Ok(kind) = document::kind(body.as_bytes(), header, "name") {
                let parsed = crate::ManifestOrIndex::parse(body.as_bytes(), Some(&kind));
                if let Ok(crate::ManifestOrIndex::Index(index)) = parsed {
                    let _ = index.select(&Platform::host());
                }
            }
        }
        5 => credentials::fuzz(input),
        6 => {
            let _ = hosts::parse(&lossy);
        }
        _ => trust::fuzz(input),
    }
}

fn name(input: &[u8]) {
    if let Ok(Source::Registry(reference)) = Source::parse(OsStr::from_bytes(input)) {
        for text in [reference.to_string(), reference.familiar()] {
            let again: Result<Reference, _> = text.parse();
            assert_eq!(again.as_ref(), Ok(&reference));
        }
    }
}

fn url(text: &str) {
    let (base, location) = text.split_once('\n').unwrap_or((text, ""));
    let joined = Url::parse(base).and_then(|base| base.join(location));
    if let Some(joined) = joined {
        assert_eq!(Url::parse(&joined.whole()).as_ref(), Some(&joined));
        assert!(!joined.to_string().contains('?'), "{joined}");
    }
}

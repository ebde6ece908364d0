//! The body of the fuzz target for all that a registry, a credentials file or a user can write. Refuses to know what is
//! right: nothing may panic, what is accepted reads back the same, and what is shown is fit for a terminal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::url::{Origin, Url};
use super::{challenge, document, hosts, text};
use crate::reference::{Reference, Source};
use crate::{Digest, Platform, credentials, trust};

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
            let right = Some(Digest::of(body.as_bytes()));
            for wanted in [None, right, Some(Digest::of(header.as_bytes()))] {
                let checked = document::check(body.into(), header, wanted, "name");
                if let Ok((_, found, _, document)) = checked {
                    assert!(wanted.is_none_or(|wanted| wanted == found));
                    if let crate::ManifestOrIndex::Index(index) = document {
                        let _ = index.select(&Platform::host());
                    }
                }
            }
        }
        5 => credentials::fuzz(input),
        6 => hosts::fuzz(&lossy),
        _ => trust::fuzz(input),
    }
}

fn name(input: &[u8]) {
    let source = Source::parse(OsStr::from_bytes(input));
    // Paths need not be text.
    if let Ok(source) = source.as_ref().map(ToString::to_string)
        && std::str::from_utf8(input).is_ok()
    {
        let again = Source::parse(OsStr::new(&source));
        assert_eq!(again.map(|again| again.to_string()), Ok(source));
    }
    if let Ok(Source::Registry(reference)) = source {
        let pinned = reference.with_digest(Digest::of(input));
        assert_eq!(pinned.to_string().parse().as_ref(), Ok(&pinned));
        if let Some(tag) = reference.tag() {
            let tagged = pinned.with_tag(tag);
            assert_eq!(
                tagged.map(|tagged| tagged.repository()),
                Ok(reference.repository())
            );
        }
        assert!(reference.with_tag(&pinned.to_string()).is_err());
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
        let shown = format!("{joined} {joined:?}");
        assert!(!shown.contains('?'), "{shown}");
        let origin = joined.origin();
        assert_eq!(
            Origin::new(origin.secure, &origin.authority()).as_ref(),
            Some(origin)
        );
        assert_eq!(origin.url(joined.path()).path(), joined.path());
        let longer = joined.with_query("a", location);
        assert_eq!(Url::parse(&longer.whole()).as_ref(), Some(&longer));
        let _ = origin.is_loopback();
    }
}

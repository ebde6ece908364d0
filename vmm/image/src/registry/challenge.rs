//! Reads `WWW-Authenticate` (RFC 9110 §11.6.1). Knows no credentials and asks nobody.

#[cfg(test)]
mod tests;

/// Longest header looked at, in bytes; real ones have a few hundred.
const HEADER_MAX: usize = 8 * 1024;
/// Most challenges and most parameters of one that are looked at.
const COUNT_MAX: usize = 16;

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request (RFC 7617).
    Basic,
    /// A token from `realm` (distribution's token specification).
    Bearer {
        /// The URL to get a token from.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Option<String>,
    },
}

/// The challenges hull can answer, strongest first. What cannot be read is left out.
#[must_use]
pub(crate) fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = headers
        .take(COUNT_MAX)
        .filter(|header| header.len() <= HEADER_MAX)
        .flat_map(challenges)
        .collect();
    found.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    found
}

fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    for _ in 0..COUNT_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((scheme, after)) = token(rest) else {
            break;
        };
        rest = after;
        let parameters = parameters(&mut rest);
        let value = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            found.push(Challenge::Bearer {
                realm,
                service: value("service"),
                scope: value("scope"),
            });
        }
    }
    found
}

/// Takes `name=value` pairs up to the next scheme.
fn parameters(rest: &mut &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while found.len() < COUNT_MAX {
        let here = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(here) else {
            break;
        };
        let Some(after) = after.trim_start().strip_prefix('=') else {
            // A word without `=` is the next scheme.
            break;
        };
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => match unquote(quoted) {
                Some(parts) => parts,
                None => break,
            },
            None => match token(after) {
                Some((value, after)) => (value.to_owned(), after),
                None => break,
            },
        };
        found.push((name.to_owned(), value));
        *rest = after;
    }
    found
}

/// A token (RFC 9110 §5.6.2) and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The content of a quoted string (RFC 9110 §5.6.4) and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return text.get(at + 1..).map(|after| (value, after)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

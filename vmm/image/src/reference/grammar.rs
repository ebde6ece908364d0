//! The grammar of a reference (docker's reference grammar, distribution-spec 1.1 "Pulling manifests"). Knows only characters.

/// Whether the part before the first `/` is a registry: it has a dot or a colon, or is `localhost`. Docker also takes
/// upper-case letters for a sign of one; hull refuses those, as lower-casing would then change what is meant.
pub(super) fn looks_like_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost")
}

/// `host`, `host:port`, `1.2.3.4:port`, `[v6]:port`.
pub(super) fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) => {
                return address.parse::<std::net::Ipv6Addr>().is_ok()
                    && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port) && host.len() <= 253 && host.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Components of lower-case letters and digits joined by `/`.
pub(super) fn is_path(text: &str) -> bool {
    text.split('/').all(is_component)
}

/// Runs of `[a-z0-9]` separated by one dot, one or two underscores, or any number of hyphens.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let mut before = false;
    for byte in text.bytes() {
        if alphanumeric(byte) {
            let joined = match separator.as_str() {
                "" | "." | "_" | "__" => true,
                other => other.bytes().all(|byte| byte == b'-'),
            };
            if !joined || (!before && !separator.is_empty()) {
                return false;
            }
            separator.clear();
            before = true;
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    before && separator.is_empty()
}

/// 1 to 128 of `[A-Za-z0-9_.-]`, the first one neither dot nor hyphen.
pub(super) fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

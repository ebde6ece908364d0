//! Absolute http and https addresses, as far as a registry client needs them. Knows no network.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

/// Whom one talks to: scheme, host and port. Credentials belong to exactly one origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// https, not http.
    pub(crate) secure: bool,
    /// Host name or address in lower case, IPv6 in brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

/// An address without user information and fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    origin: Origin,
    /// Begins with `/`; has the query, which can hold secrets.
    path_and_query: String,
}

impl Origin {
    /// Reads `host[:port]`.
    pub(crate) fn new(secure: bool, authority: &str) -> Option<Self> {
        let scheme = if secure { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{authority}/")).map(|url| url.origin)
    }

    /// The address of `path`, which begins with `/`.
    pub(crate) fn url(&self, path: &str) -> Url {
        Url {
            origin: self.clone(),
            path_and_query: path.to_owned(),
        }
    }

    /// `host`, or `host:port` where the port is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Whether nobody but this machine can be meant.
    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl Url {
    /// Reads an absolute address. User information is refused: hull never sends it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().ok()?;
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()).filter(|port| *port > 0)?,
            None if secure => 443,
            None => 80,
        };
        Some(Self {
            origin: Origin {
                secure,
                host: authority.host().to_ascii_lowercase(),
                port,
            },
            path_and_query: match uri.path_and_query().map(ToString::to_string) {
                Some(path) if path.starts_with('/') => path,
                Some(query) => format!("/{query}"),
                None => "/".to_owned(),
            },
        })
    }

    /// What a `Location` header means here (RFC 3986 §5.2, without dot segments).
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let scheme = if self.origin.secure { "https" } else { "http" };
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{}{location}", self.origin));
        }
        if location.split(['/', '?']).next()?.contains(':') {
            return Self::parse(location);
        }
        let path = self.path();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        match location.chars().next() {
            None => Some(self.clone()),
            Some('?') => Self::parse(&format!("{}{path}{location}", self.origin)),
            Some(_) => Self::parse(&format!("{}{parent}/{location}", self.origin)),
        }
    }

    /// The same address with `name=value` added to the query.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let mut longer = self.clone();
        let separator = if longer.path_and_query.contains('?') {
            '&'
        } else {
            '?'
        };
        longer.path_and_query.push(separator);
        longer.path_and_query.push_str(name);
        longer.path_and_query.push('=');
        longer.path_and_query.push_str(&encode(value));
        longer
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The whole address, for the request itself. Not for errors: the query can hold secrets.
    pub(crate) fn whole(&self) -> String {
        format!("{}{}", self.origin, self.path_and_query)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;

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
mod tests {
    //! Origins, joining, and that queries stay out of what is shown.
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(url("https://A.b/x").origin(), url("https://a.B:443/y").origin());
        assert_ne!(url("https://a.b/").origin(), url("http://a.b/").origin());
        assert_ne!(url("https://a.b/").origin(), url("https://a.b:444/").origin());
        assert_eq!(url("http://[::1]:80/").origin().to_string(), "http://[::1]");
        for text in ["ftp://a/", "a/b", "https://", "https://u@a/", "https://u:p@a/", "https://a:0/", "https://a b/"] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        for (text, loopback) in [("localhost", true), ("127.0.0.9:5000", true), ("[::1]:1", true), ("localhost.evil.com", false), ("10.0.0.1", false)] {
            assert_eq!(Origin::new(false, text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_location_is_read_against_where_it_came_from() {
        let here = url("https://r.io/v2/a/blobs/x?state=1");
        for (location, meant) in [
            ("https://cdn.io/y?sig=2", "https://cdn.io/y?sig=2"),
            ("//cdn.io/y", "https://cdn.io/y"),
            ("/y", "https://r.io/y"),
            ("y", "https://r.io/v2/a/blobs/y"),
            ("?n=1", "https://r.io/v2/a/blobs/x?n=1"),
            ("/a?b=http://c", "https://r.io/a?b=http://c"),
            ("/a#f", "https://r.io/a"),
        ] {
            assert_eq!(here.join(location).map(|u| u.whole()).as_deref(), Some(meant), "{location}");
        }
        for location in ["javascript:x", "file:///etc/passwd", "https://u:p@x/"] {
            assert_eq!(here.join(location), None, "{location}");
        }
    }

    #[test]
    fn the_query_is_never_shown() {
        let signed = url("https://cdn.io/y?X-Sig=secret");
        assert_eq!(signed.to_string(), "https://cdn.io/y");
        assert_eq!(format!("{signed:?}"), "https://cdn.io/y");
        assert_eq!(
            signed.with_query("scope", "a:b c").whole(),
            "https://cdn.io/y?X-Sig=secret&scope=a%3Ab%20c"
        );
        assert_eq!(url("https://x").with_query("a", "1").whole(), "https://x/?a=1");
    }

    proptest! {
        #[test]
        fn joining_never_panics_and_stays_http(location in ".{0,60}") {
            if let Some(joined) = url("https://r.io/v2/a").join(&location) {
                let again = Url::parse(&joined.whole());
                prop_assert_eq!(again, Some(joined));
            }
        }
    }
}

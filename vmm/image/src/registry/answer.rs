//! The answer to a request: its status, headers and body, bounded. Knows not what was asked.

use std::io::{self, Read};

use ureq::Body;
use ureq::http::{HeaderMap, StatusCode, header};

use super::error::{ExchangeError, Fault};
use super::text;
use super::url::Url;

/// Most that is read of a refusal's body, in bytes.
const REFUSAL_MAX: u64 = 8 * 1024;

/// The answer to a request, redirects followed.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Where it came from in the end.
    pub(crate) url: Url,
}

impl Answer {
    /// The value of a header as text.
    pub(crate) fn header(&self, name: &header::HeaderName) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Where the `Location` header leads.
    pub(crate) fn location(&self) -> Option<Url> {
        self.url.join(&self.header(&header::LOCATION)?)
    }

    /// `Content-Length`, if there is one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(&header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// The body of a small document, at most `limit` bytes.
    pub(crate) fn document(self, limit: usize) -> Result<Vec<u8>, ExchangeError> {
        let host = self.url.origin().authority();
        let bound = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        self.body
            .into_with_config()
            .limit(u64::MAX)
            .reader()
            .take(bound.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| ExchangeError::new(host.clone(), Fault::from(error)))?;
        if bytes.len() > limit {
            return Err(ExchangeError::new(host, Fault::Endless { limit: bound }));
        }
        Ok(bytes)
    }

    /// The body as it arrives. Whoever reads it bounds it.
    pub(crate) fn stream(self) -> impl Read + Send + 'static {
        self.body.into_with_config().limit(u64::MAX).reader()
    }

    /// What the body of a refusal says, for people.
    pub(crate) fn refusal(self) -> String {
        let mut body = Vec::new();
        let read: io::Result<usize> = self
            .body
            .into_with_config()
            .limit(u64::MAX)
            .reader()
            .take(REFUSAL_MAX)
            .read_to_end(&mut body);
        // What arrived before a break is better than nothing.
        let _ = read;
        text::refusal(&body)
    }

    /// This answer as an error, for statuses that are none of the expected.
    pub(crate) fn into_error(self) -> ExchangeError {
        let host = self.url.origin().authority();
        let status = self.status.as_u16();
        ExchangeError::new(
            host,
            Fault::Status {
                status,
                reason: self.refusal(),
            },
        )
    }
}

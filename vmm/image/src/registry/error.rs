//! What can go wrong between hull and a registry. Texts carry what a user needs and nothing secret; what a peer wrote is
//! escaped and bounded before it gets here.

use std::io;

use thiserror::Error;

use super::hosts::RegistriesError;
use super::tls::TlsError;
use crate::credentials::CredentialsError;
use crate::{Digest, DocumentError};

/// An HTTP exchange that failed, and with whom.
#[derive(Debug, Error)]
#[error("{host}: {fault}")]
pub struct ExchangeError {
    /// `host[:port]` of the peer.
    pub host: String,
    /// What happened.
    pub fault: Fault,
}

/// What went wrong in an exchange.
#[derive(Debug, Error)]
pub enum Fault {
    /// The name has no address.
    #[error("No such host, or no name server answers")]
    NoHost,
    /// Nothing listens there, or the way there is closed.
    #[error("Cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("The connection broke: {0}")]
    Broken(String),
    /// Nothing came within the time-out.
    #[error("Timed out while waiting for the server")]
    Stalled,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(TlsError),
    /// The peer's certificate, or its TLS as such, is not acceptable.
    #[error("TLS failed: {0}")]
    Handshake(String),
    /// The proxy's address cannot be read.
    #[error("The proxy address in the environment cannot be read")]
    Proxy,
    /// The proxy refused.
    #[error("The proxy refused: {0}")]
    ProxyRefused(String),
    /// The peer does not speak HTTP properly.
    #[error("The answer is not proper HTTP: {0}")]
    Protocol(String),
    /// The server refused.
    #[error("HTTP status {status} ({reason})")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the body says, escaped and bounded.
        reason: String,
    },
    /// The server asks for a pause longer than hull waits.
    #[error("The server is busy and asks to come back in {seconds} seconds")]
    Busy {
        /// The pause it asks for.
        seconds: u64,
    },
    /// A redirect that is not followed.
    #[error("Refuses to follow a redirect to {to:?}")]
    Redirect {
        /// Where to.
        to: String,
    },
    /// Redirects without end.
    #[error("Too many redirects")]
    Redirects,
    /// A document longer than its bound.
    #[error("The answer is longer than the {limit} bytes allowed")]
    Endless {
        /// The bound in bytes.
        limit: u64,
    },
    /// A value that cannot be part of a request.
    #[error("A value has characters that HTTP cannot carry")]
    Header,
}

impl ExchangeError {
    pub(crate) fn new(host: String, fault: Fault) -> Self {
        Self { host, fault }
    }
}

impl Fault {
    /// Whether the same request may succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Stalled => true,
            Self::Status { status, .. } => super::http::is_transient(*status),
            _ => false,
        }
    }
}

impl From<ureq::Error> for Fault {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::HostNotFound => Self::NoHost,
            ureq::Error::Timeout(_) => Self::Stalled,
            ureq::Error::Io(error) => Self::from(error),
            ureq::Error::Rustls(error) => Self::Handshake(error.to_string()),
            ureq::Error::ConnectProxyFailed(reason) => {
                Self::ProxyRefused(super::text::printable(&reason, 100))
            }
            ureq::Error::ConnectionFailed => Self::Connect(io::ErrorKind::NotConnected.into()),
            ureq::Error::LargeResponseHeader(_, limit) => Self::Endless {
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            },
            other => Self::Protocol(super::text::printable(&other.to_string(), 200)),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        if error
            .get_ref()
            .is_some_and(|inner| inner.is::<ureq::Error>())
        {
            return Self::from(ureq::Error::from(error));
        }
        if let Some(tls) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return Self::Handshake(tls.to_string());
        }
        // The standard library has no kind for this.
        let text = error.to_string();
        if text.contains("failed to lookup address") && !text.contains("Temporary failure") {
            return Self::NoHost;
        }
        match error.kind() {
            K::TimedOut | K::WouldBlock => Self::Stalled,
            K::ConnectionRefused
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::AddrNotAvailable
            | K::PermissionDenied => Self::Connect(error),
            _ => Self::Broken(text),
        }
    }
}

/// Why something could not be got from or brought to a registry.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// An exchange failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The registry's configuration cannot be used, or blocks the image.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// Credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A manifest, index or configuration is refused.
    #[error("{name} is refused")]
    Document {
        /// What was asked for.
        name: String,
        /// Why.
        source: DocumentError,
    },
    /// The registry has no such image.
    #[error("{name} is not in the registry: {reason}")]
    Absent {
        /// What was asked for.
        name: String,
        /// What the registry says.
        reason: String,
    },
    /// The registry wants other credentials, or some at all.
    #[error("{host} refuses access to {name}: {reason}")]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        name: String,
        /// What the registry says.
        reason: String,
        /// Whether credentials were sent.
        identified: bool,
    },
    /// The registry sends its client elsewhere for a token.
    #[error(
        "{host} wants its credentials sent to {realm:?}; hull sends them only to the registry itself and the domains above it, \
         or where token-realms of registries.conf allows it"
    )]
    Realm {
        /// The registry.
        host: String,
        /// Where it wants them sent.
        realm: String,
    },
    /// The token server's answer holds no usable token.
    #[error("{realm} gave no usable token: {reason}")]
    Token {
        /// The token server.
        realm: String,
        /// Why not.
        reason: &'static str,
    },
    /// The content is not what its digest says.
    #[error(
        "{name} has the digest {found}, not {wanted}: it was changed on the way or in the registry"
    )]
    Digest {
        /// What was asked for.
        name: String,
        /// The digest that was asked for.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("{name} has {found} bytes, not the {wanted} its descriptor says")]
    Size {
        /// The blob.
        name: Digest,
        /// The size in the descriptor, in bytes.
        wanted: u64,
        /// The size that came, or one more where it had no end.
        found: u64,
    },
    /// The registry calls the same bytes two things.
    #[error("The registry calls {name} {header:?}, the document itself {body:?}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// `Content-Type`.
        header: String,
        /// `mediaType`.
        body: String,
    },
    /// The image is for another machine.
    #[error("{name} is for {found}, not for {wanted}")]
    Platform {
        /// The image.
        name: String,
        /// What was asked for.
        wanted: String,
        /// What it is for.
        found: String,
    },
    /// The registry's host name cannot be used.
    #[error("{0:?} is no host that can be connected to")]
    Host(String),
    /// Something local could not be read or written.
    #[error("Cannot use {what}")]
    Local {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A download was given up because another one failed or the pull was ended.
    #[error("The download was stopped")]
    Stopped,
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        let kind = match &error {
            RegistryError::Digest { .. } | RegistryError::Size { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl RegistryError {
    /// Takes back what was made into an [`io::Error`].
    pub(crate) fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Local {
                what: "the data of a transfer".to_owned(),
                source,
            },
        }
    }
}

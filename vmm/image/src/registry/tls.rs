//! Whom TLS trusts: the system's authorities, `SSL_CERT_FILE`, and a registry's own directory under `certs.d` as docker and
//! podman keep it. Knows no connection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use thiserror::Error;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Where distributions keep all authorities in one file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Largest certificate or key file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Where to find certificates.
#[derive(Debug, Clone)]
pub(crate) struct Authorities {
    bundle: Option<PathBuf>,
    directories: Vec<PathBuf>,
    system: Arc<OnceLock<Vec<Certificate<'static>>>>,
}

/// Why TLS to a registry cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate or key file cannot be read.
    #[error("Cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or key in PEM.
    #[error("{path} holds no {what} in PEM form")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// A client certificate whose key is absent, unusable or another one's.
    #[error("The client certificate {certificate} and its key do not work together: {reason}")]
    Client {
        /// The `.cert` file.
        certificate: PathBuf,
        /// Why.
        reason: String,
    },
    /// No authorities at all.
    #[error(
        "No certificate authorities are installed on this machine (Debian's package is ca-certificates)"
    )]
    NoAuthorities,
}

impl Authorities {
    /// Finds files and directories; reads none of them.
    pub(crate) fn new(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let bundle = variable("SSL_CERT_FILE")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
        let home = variable("HOME").map(PathBuf::from);
        let config = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| home.map(|home| home.join(".config")));
        let directories = config
            .map(|config| config.join("containers/certs.d"))
            .into_iter()
            .chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from))
            .collect();
        Self {
            bundle,
            directories,
            system: Arc::default(),
        }
    }

    /// What TLS with `authority` (`host[:port]`) needs. `verify` false trusts everybody.
    pub(crate) fn config(&self, authority: &str, verify: bool) -> Result<TlsConfig, TlsError> {
        let mut roots = if verify { self.system()? } else { Vec::new() };
        let mut client = None;
        for directory in &self.directories {
            // An authority is `host`, `host:port` or `[v6]:port`: it has no slash.
            let directory = directory.join(authority);
            for path in listing(&directory) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => roots.extend(certificates(&path)?),
                    Some("cert") if client.is_none() => client = Some(client_certificate(&path)?),
                    _ => {}
                }
            }
        }
        if verify && roots.is_empty() {
            return Err(TlsError::NoAuthorities);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::from(roots))
            .client_cert(client)
            .disable_verification(!verify)
            .build())
    }

    fn system(&self) -> Result<Vec<Certificate<'static>>, TlsError> {
        if let Some(known) = self.system.get() {
            return Ok(known.clone());
        }
        let read = match &self.bundle {
            Some(bundle) => certificates(bundle)?,
            None => Vec::new(),
        };
        Ok(self.system.get_or_init(|| read).clone())
    }
}

/// The entries of a directory by name; none when it is absent.
fn listing(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .take(256)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let attempt = || {
        let mut text = Vec::new();
        let file = fs::File::open(path)?;
        io::Read::read_to_end(&mut io::Read::take(file, FILE_MAX), &mut text)?;
        Ok(text)
    };
    attempt().map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, TlsError> {
    let found: Vec<_> = parse_pem(&read(path)?)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(TlsError::Pem {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(found)
}

/// Reads `NAME.cert` and `NAME.key`, and makes sure that TLS can use the pair.
fn client_certificate(path: &Path) -> Result<ClientCert, TlsError> {
    let chain = certificates(path)?;
    let key_path = path.with_extension("key");
    let key = PrivateKey::from_pem(&read(&key_path)?).map_err(|_| TlsError::Pem {
        path: key_path.clone(),
        what: "private key",
    })?;
    let unusable = |reason: String| TlsError::Client {
        certificate: path.to_owned(),
        reason,
    };
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.der().to_vec())
        .map_err(|reason| unusable(reason.to_owned()))?;
    let ders = chain
        .iter()
        .map(|certificate| rustls::pki_types::CertificateDer::from(certificate.der().to_vec()))
        .collect();
    let provider = rustls::crypto::ring::default_provider();
    let pair = rustls::sign::CertifiedKey::from_der(ders, der, &provider)
        .map_err(|reason| unusable(reason.to_string()))?;
    pair.keys_match()
        .map_err(|reason| unusable(reason.to_string()))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

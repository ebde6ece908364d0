//! What a caller opens: a client, and with it repositories. Gets manifests, configurations and blobs of one image
//! from wherever the configuration says, and checks every byte against its digest. Knows no store.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ureq::http::Method;

use super::blob::Blob;
use super::document::{claimed, fetch, manifest_call, target};
use super::error::RegistryError;
use super::hosts::{Location, Registries};
use super::http::{Call, Http, Limits};
use super::progress::{Progress, Unwatched};
use super::proxy::Proxies;
use super::session::{Scope, Session};
use super::text;
use super::tls::Authorities;
use crate::credentials::{Credentials, Login};
use crate::reference::Reference;
use crate::{
    Descriptor, Digest, DocumentError, ImageConfig, MAX_DOCUMENT, Manifest, ManifestOrIndex,
    Platform,
};

/// Deepest nesting of indexes that is followed.
const NESTING_MAX: usize = 3;

/// What a user can set for one command.
pub struct Settings {
    /// `--tls-verify`: false takes any certificate and plain http; true insists also where the configuration would not;
    /// unset leaves it to the configuration, and takes plain http from this machine as docker does.
    pub tls_verify: Option<bool>,
    /// Bounds in time.
    pub limits: Limits,
    /// Who watches.
    pub progress: Arc<dyn Progress>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls_verify: None,
            limits: Limits::default(),
            progress: Arc::new(Unwatched),
        }
    }
}

/// A client of registries. Opening one reads configuration files and connects to nobody.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What all sessions of a client have in common.
pub(crate) struct Shared {
    pub(crate) http: Http,
    pub(crate) credentials: Credentials,
    pub(crate) registries: Registries,
    pub(crate) tls_verify: Option<bool>,
    pub(crate) progress: Arc<dyn Progress>,
}

/// One repository, in all the places it can be fetched from.
pub struct Repository {
    reference: Reference,
    sessions: Vec<Session>,
    /// The place that worked last.
    preferred: AtomicUsize,
}

/// An image as a registry describes it, verified.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub manifest: Manifest,
    /// The digest the reference leads to: that of the index, or else of the manifest.
    pub top: Digest,
    /// The digests of all indexes on the way, outermost first.
    pub indexes: Vec<Digest>,
}

impl Client {
    /// Reads the configuration that `variable` (the environment) points to.
    ///
    /// # Errors
    /// When a configuration file cannot be used.
    pub fn new(
        variable: &dyn Fn(&str) -> Option<OsString>,
        settings: Settings,
    ) -> Result<Self, RegistryError> {
        let verify = settings.tls_verify.unwrap_or(true);
        Ok(Self {
            shared: Arc::new(Shared {
                http: Http::new(
                    Authorities::new(variable),
                    Proxies::new(variable),
                    verify,
                    settings.limits,
                ),
                credentials: Credentials::from_environment(variable),
                registries: Registries::from_environment(variable)?,
                tls_verify: settings.tls_verify,
                progress: settings.progress,
            }),
        })
    }

    /// The repository of `reference`, for pulling.
    ///
    /// # Errors
    /// When the configuration blocks it.
    pub fn open(&self, reference: &Reference) -> Result<Repository, RegistryError> {
        let locations = self.shared.registries.locations(reference)?;
        Ok(self.repository(reference, locations, None))
    }

    /// The repository of `reference`, for pushing: never a mirror.
    ///
    /// # Errors
    /// When the configuration blocks it.
    pub fn open_for_push(&self, reference: &Reference) -> Result<Repository, RegistryError> {
        let location = self.shared.registries.primary(reference)?;
        Ok(self.repository(reference, location.into_iter().collect(), None))
    }

    fn repository(
        &self,
        reference: &Reference,
        locations: Vec<Location>,
        login: Option<&Login>,
    ) -> Repository {
        Repository {
            reference: reference.clone(),
            sessions: locations
                .into_iter()
                .map(|location| Session::new(self.shared.clone(), location, login.cloned()))
                .collect(),
            preferred: AtomicUsize::new(0),
        }
    }

    /// Asks the registry at `domain` whether it takes `login`.
    ///
    /// # Errors
    /// When it does not, or cannot be asked.
    pub fn check(&self, domain: &Reference, login: &Login) -> Result<(), RegistryError> {
        let location = self.shared.registries.primary(domain)?;
        let locations = location.into_iter().collect();
        let repository = self.repository(domain, locations, Some(login));
        repository.each(|session| {
            let mut call = Call::get(session.base()?);
            call.document = true;
            let answer = session.exchange(&Scope::None, call)?;
            match answer.status.as_u16() {
                200..=299 => Ok(()),
                _ => Err(session.refused(answer, domain.domain())),
            }
        })
    }

    /// The stored credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.shared.credentials
    }
}

impl Repository {
    /// What the repository was opened for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The digest the registry says the reference has, without fetching. It is a claim: good for finding out that
    /// nothing has changed, as what is stored under a digest has been verified.
    ///
    /// # Errors
    /// When no place can be asked.
    pub fn head(&self) -> Result<Option<Digest>, RegistryError> {
        self.each(|session| {
            let mut call = manifest_call(session, &target(&self.reference))?;
            call.method = Method::HEAD;
            let answer = session.exchange(&Scope::Pull, call)?;
            match answer.status.as_u16() {
                200 => Ok(claimed(&answer)),
                _ => Err(session.refused(answer, &self.reference.to_string())),
            }
        })
    }

    /// The manifest the reference leads to, through an index where there is one.
    ///
    /// # Errors
    /// When no place has it, it is not what its digest says, or it is no image for `platform`.
    pub fn manifest(&self, platform: &Platform) -> Result<Fetched, RegistryError> {
        let mut wanted = self.reference.digest().copied();
        let mut target = target(&self.reference);
        let mut indexes = Vec::new();
        loop {
            let name = match indexes.is_empty() {
                true => self.reference.to_string(),
                false => self.reference.repository() + "@" + &target,
            };
            let (bytes, digest, kind, document) =
                self.each(|session| fetch(session, &target, wanted.as_ref(), &name))?;
            let refused = |source| RegistryError::Document {
                name: name.clone(),
                source,
            };
            match document {
                ManifestOrIndex::Manifest(manifest) => {
                    return Ok(Fetched {
                        digest,
                        media_type: kind,
                        bytes,
                        manifest,
                        top: indexes.first().copied().unwrap_or(digest),
                        indexes,
                    });
                }
                ManifestOrIndex::Index(_) if indexes.len() >= NESTING_MAX => {
                    return Err(refused(DocumentError::MediaType(
                        "an index in an index in an index".to_owned(),
                    )));
                }
                ManifestOrIndex::Index(index) => {
                    let chosen = index.select(platform).map_err(refused)?;
                    indexes.push(digest);
                    wanted = Some(chosen.digest);
                    target = chosen.digest.to_string();
                }
            }
        }
    }

    /// A manifest by its tag, if there is one: how signatures are stored beside an image.
    ///
    /// # Errors
    /// When no place can be asked, or what is there is no manifest.
    pub(crate) fn companion(&self, tag: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let name = format!("{}:{tag}", self.reference.repository());
        let got = self.each(|session| {
            let answer = session.exchange(&Scope::Pull, manifest_call(session, tag)?)?;
            match answer.status.as_u16() {
                200 => Ok(answer.document(MAX_DOCUMENT)?),
                _ => Err(session.refused(answer, &name)),
            }
        });
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RegistryError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The configuration of a manifest, its bytes and what they say.
    ///
    /// # Errors
    /// When no place has it, it is not what its digest says, or it is for another platform.
    pub fn config(
        self: &Arc<Self>,
        manifest: &Manifest,
        platform: &Platform,
    ) -> Result<(Vec<u8>, ImageConfig), RegistryError> {
        let bytes = self.small(&manifest.config)?;
        let name = self.reference.to_string();
        let config = manifest
            .parse_config(&bytes)
            .map_err(|source| RegistryError::Document {
                name: name.clone(),
                source,
            })?;
        let fits = |found: &str, wanted: &str| found.is_empty() || found == wanted;
        if !fits(&config.os, &platform.os) || !fits(&config.architecture, &platform.architecture) {
            let found = format!("{}/{}", config.os, config.architecture);
            return Err(RegistryError::Platform {
                name,
                wanted: platform.to_string(),
                found: text::printable(&found, 60),
            });
        }
        Ok((bytes, config))
    }

    /// A whole blob that is a small document, verified.
    pub(crate) fn small(
        self: &Arc<Self>,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        if usize::try_from(descriptor.size).map_or(true, |size| size > MAX_DOCUMENT) {
            return Err(RegistryError::Document {
                name: descriptor.digest.to_string(),
                source: DocumentError::TooLong {
                    what: "document",
                    bytes: descriptor.size,
                },
            });
        }
        self.blob(descriptor).whole()
    }

    /// A blob, fetched while it is read and verified when its end is read. Connects at the first read.
    #[must_use]
    pub fn blob(self: &Arc<Self>, descriptor: &Descriptor) -> Blob {
        Blob::new(self.clone(), descriptor)
    }

    /// A part of a layer as a stream, not verified.
    pub(crate) fn part(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        range: &std::ops::Range<u64>,
    ) -> Blob {
        Blob::part(self.clone(), descriptor, range)
    }

    /// Tries every place, the one that worked last first. Returns the error of the registry itself rather than a mirror's.
    pub(crate) fn each<T>(
        &self,
        mut attempt: impl FnMut(&Session) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut outcome = Err(RegistryError::Stopped);
        let order = (0..self.sessions.len()).filter(|place| *place != first);
        for place in std::iter::once(first).chain(order) {
            let Some(session) = self.sessions.get(place) else {
                continue;
            };
            match attempt(session) {
                Ok(done) => {
                    self.preferred.store(place, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error) => {
                    let is_mirror = place + 1 < self.sessions.len();
                    if is_mirror {
                        let note = format!("Mirror {} failed: {error}", session.name());
                        session.shared().progress.note(&note);
                    }
                    if !is_mirror || outcome.is_ok() || self.sessions.len() == 1 {
                        outcome = Err(error);
                    }
                }
            }
        }
        outcome
    }

    /// The place that worked last.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.sessions.get(self.preferred.load(Ordering::Relaxed))
    }
}

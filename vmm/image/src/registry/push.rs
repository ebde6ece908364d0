//! Brings blobs and manifests to a registry (distribution-spec 1.1 "Pushing"). Knows not where they come from.

use std::fs::File;

use ureq::http::Method;

use super::client::Repository;
use super::error::{ExchangeError, Fault, RegistryError};
use super::http::{Call, Payload};
use super::session::{Scope, Session, improper};
use super::url::Url;
use crate::{Descriptor, Digest};

/// The content of a blob to push.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A whole file.
    File(&'a File),
}

impl Repository {
    /// Makes sure the registry has a blob: looks for it, mounts it from `mount` (a repository of the same registry) if it
    /// is there, or else sends it. True if it was sent.
    ///
    /// # Errors
    /// When the registry refuses, or the blob that arrived has another digest.
    pub fn push_blob(
        &self,
        descriptor: &Descriptor,
        content: Content<'_>,
        mount: Option<&str>,
    ) -> Result<bool, RegistryError> {
        let Some(session) = self.session() else {
            return Err(RegistryError::Stopped);
        };
        let progress = &session.shared().progress;
        let digest = &descriptor.digest;
        progress.begins(digest, descriptor.size);
        let mut attempt = 1;
        loop {
            let error = match send(session, descriptor, content, mount) {
                Ok(sent) => {
                    progress.moves(digest, descriptor.size);
                    progress.ends(digest, !sent);
                    return Ok(sent);
                }
                Err(error) => error,
            };
            // An upload that broke is lost: the next one is another.
            let RegistryError::Exchange(ExchangeError { host, fault }) = &error else {
                return Err(error);
            };
            let http = &session.shared().http;
            if !fault.is_transient() || attempt >= http.limits.attempts {
                return Err(error);
            }
            let pause = http.pause(attempt);
            progress.waiting(host, &fault.to_string(), pause);
            std::thread::sleep(pause);
            attempt += 1;
        }
    }

    /// Puts a manifest or index under the reference's tag, or under its digest where it has none.
    ///
    /// # Errors
    /// When the registry refuses, or stores it under another digest.
    pub fn push_manifest(&self, bytes: &[u8], media_type: &str) -> Result<Digest, RegistryError> {
        let Some(session) = self.session() else {
            return Err(RegistryError::Stopped);
        };
        let digest = Digest::of(bytes);
        let reference = self.reference();
        let target = match reference.tag() {
            Some(tag) => tag.to_owned(),
            None => digest.to_string(),
        };
        let mut call = Call::get(session.url(&format!("/manifests/{target}"))?);
        call.method = Method::PUT;
        call.headers.push(("content-type", media_type.to_owned()));
        call.payload = Payload::Bytes(bytes);
        let answer = session.exchange(&Scope::Push, call)?;
        if answer.status != 201 {
            return Err(session.refused(answer, &reference.to_string()));
        }
        let stored = answer.headers.get("docker-content-digest");
        let stored = stored.and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        if let Some(found) = stored.filter(|stored| *stored != digest) {
            return Err(RegistryError::Digest {
                name: reference.to_string(),
                wanted: digest,
                found,
            });
        }
        Ok(digest)
    }
}

/// Makes sure the registry has a blob. True if it was sent.
fn send(
    session: &Session,
    descriptor: &Descriptor,
    content: Content<'_>,
    mount: Option<&str>,
) -> Result<bool, RegistryError> {
    let digest = &descriptor.digest;
    if has(session, digest)? {
        return Ok(false);
    }
    let Some(upload) = begin(session, digest, mount)? else {
        return Ok(false);
    };
    let mut call = Call::get(upload.with_query("digest", &digest.to_string()));
    call.method = Method::PUT;
    call.once = true;
    call.headers
        .push(("content-type", "application/octet-stream".to_owned()));
    call.payload = match content {
        Content::Bytes(bytes) => Payload::Bytes(bytes),
        Content::File(file) => Payload::File(file, descriptor.size),
    };
    let answer = session.exchange(&Scope::Push, call)?;
    match answer.status.as_u16() {
        201 => Ok(true),
        _ => Err(session.refused(answer, &digest.to_string())),
    }
}

/// Whether the registry has a blob already.
fn has(session: &Session, digest: &Digest) -> Result<bool, RegistryError> {
    let mut call = Call::get(session.url(&format!("/blobs/{digest}"))?);
    call.method = Method::HEAD;
    let answer = session.exchange(&Scope::Push, call)?;
    match answer.status.as_u16() {
        200 => Ok(true),
        404 => Ok(false),
        _ => Err(session.refused(answer, &digest.to_string())),
    }
}

/// Begins an upload; none if the blob could be mounted instead.
fn begin(
    session: &Session,
    digest: &Digest,
    mount: Option<&str>,
) -> Result<Option<Url>, RegistryError> {
    let mut url = session.url("/blobs/uploads/")?;
    let mut scope = Scope::Push;
    if let Some(from) = mount {
        url = url
            .with_query("mount", &digest.to_string())
            .with_query("from", from);
        scope = Scope::Mount(from.to_owned());
    }
    let mut call = Call::get(url);
    call.method = Method::POST;
    call.payload = Payload::Bytes(&[]);
    let answer = session.exchange(&scope, call)?;
    match answer.status.as_u16() {
        201 if mount.is_some() => Ok(None),
        202 => {
            let Some(location) = answer.location() else {
                return Err(improper(&answer, "an upload without a location"));
            };
            // The content may be private: it goes encrypted if the registry itself is.
            if answer.url.origin().secure && !location.origin().secure {
                let fault = Fault::Redirect {
                    to: location.to_string(),
                };
                return Err(ExchangeError::new(answer.url.origin().authority(), fault).into());
            }
            Ok(Some(location))
        }
        _ => Err(session.refused(answer, &session.name())),
    }
}

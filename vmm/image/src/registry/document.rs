//! Gets one manifest or index from one place and makes sure that it is what it should be. Knows not what it leads to.

use ureq::http::header;

use super::answer::Answer;
use super::error::RegistryError;
use super::http::Call;
use super::session::{Scope, Session};
use super::text;
use crate::reference::Reference;
use crate::{Digest, DocumentError, MAX_DOCUMENT, ManifestOrIndex, media_type};

/// What to ask for: the digest if there is one, or else the tag.
pub(super) fn target(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => crate::reference::DEFAULT_TAG.to_owned(),
    }
}

/// The request for a manifest or index.
pub(super) fn manifest_call<'a>(
    session: &Session,
    target: &str,
) -> Result<Call<'a>, RegistryError> {
    let mut call = Call::get(session.url(&format!("/manifests/{target}"))?);
    call.document = true;
    let accepted = [
        media_type::OCI_INDEX,
        media_type::DOCKER_LIST,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
    ];
    call.headers.push(("accept", accepted.join(", ")));
    Ok(call)
}

/// The digest that the registry says the content has.
pub(super) fn claimed(answer: &Answer) -> Option<Digest> {
    let value = answer.headers.get("docker-content-digest")?;
    value.to_str().ok()?.parse().ok()
}

/// Bytes, digest, media type and what they say.
pub(super) type Document = (Vec<u8>, Digest, String, ManifestOrIndex);

/// Gets a manifest or index from one place and verifies it.
pub(super) fn fetch(
    session: &Session,
    target: &str,
    wanted: Option<&Digest>,
    name: &str,
) -> Result<Document, RegistryError> {
    let answer = session.exchange(&Scope::Pull, manifest_call(session, target)?)?;
    if answer.status != 200 {
        return Err(session.refused(answer, name));
    }
    let claimed = claimed(&answer);
    let header = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
    let header = header.to_owned();
    let bytes = answer.document(MAX_DOCUMENT)?;
    check(bytes, &header, wanted.copied().or(claimed), name)
}

/// What came with this `Content-Type`, if it is what is wanted and can be read.
pub(super) fn check(
    bytes: Vec<u8>,
    header: &str,
    wanted: Option<Digest>,
    name: &str,
) -> Result<Document, RegistryError> {
    let header = header.split(';').next().unwrap_or_default().trim();
    let found = Digest::of(&bytes);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
        return Err(RegistryError::Digest {
            name: name.to_owned(),
            wanted,
            found,
        });
    }
    let kind = kind(&bytes, header, name)?;
    let document =
        ManifestOrIndex::parse(&bytes, Some(&kind)).map_err(|source| RegistryError::Document {
            name: name.to_owned(),
            source,
        })?;
    Ok((bytes, found, kind, document))
}

/// What a document is. A header and a document that disagree, or a document that could be read in two ways, is refused
/// (CVE-2021-41190).
pub(super) fn kind(bytes: &[u8], header: &str, name: &str) -> Result<String, RegistryError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let refused = |kind: String| RegistryError::Document {
        name: name.to_owned(),
        source: DocumentError::MediaType(kind),
    };
    let shown = |kind: &str| text::printable(kind, 100);
    let Ok(probe) = serde_json::from_slice::<Probe>(bytes) else {
        return Err(refused(shown(header)));
    };
    if probe.schema_version == Some(1) {
        return Err(refused(
            "docker's manifest schema 1, which has no digests to check".to_owned(),
        ));
    }
    let known = [
        media_type::OCI_INDEX,
        media_type::DOCKER_LIST,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
    ];
    let ambiguous = |body: &str| RegistryError::Ambiguous {
        name: name.to_owned(),
        header: shown(header),
        body: shown(body),
    };
    let vague = matches!(
        header,
        "" | "application/json" | "application/octet-stream" | "text/plain"
    );
    let kind = match probe.media_type {
        Some(body) if !vague && body != header => return Err(ambiguous(&body)),
        Some(body) => body,
        None if !vague => header.to_owned(),
        None if probe.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
        None => media_type::OCI_MANIFEST.to_owned(),
    };
    if !known.contains(&kind.as_str()) {
        return Err(refused(shown(&kind)));
    }
    let is_index = kind == media_type::OCI_INDEX || kind == media_type::DOCKER_LIST;
    let other = match is_index {
        true => probe.layers.is_some() || probe.config.is_some(),
        false => probe.manifests.is_some(),
    };
    if other {
        return Err(ambiguous("both an index and a manifest"));
    }
    Ok(kind)
}

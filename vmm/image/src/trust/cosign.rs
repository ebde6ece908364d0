//! Signatures as cosign stores them: a manifest under the tag `sha256-HEX.sig`, whose layers are simple-signing payloads
//! with the signature as an annotation (cosign's SIGNATURE_SPEC, "simple signing"). Knows no policy.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::policy::Signed;
use crate::reference::Reference;
use crate::registry::{Fetched, RegistryError, Repository, printable};
use crate::{Descriptor, Digest};

/// The media type of a payload.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a payload says it is.
const KIND: &str = "cosign container image signature";
/// Most signatures of an image that are looked at.
const COUNT_MAX: usize = 64;
/// Largest payload that is looked at, in bytes.
const PAYLOAD_MAX: u64 = 64 * 1024;

/// One signature, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    #[serde(with = "text")]
    payload: Vec<u8>,
    #[serde(with = "text")]
    signature: Vec<u8>,
    /// The manifest or index it was found with.
    digest: Digest,
}

/// Bytes as base64, for signatures that are kept.
mod text {
    use super::{BASE64, Engine};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
struct Companion {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: ClaimedIdentity,
    image: ClaimedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct ClaimedIdentity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct ClaimedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// All signatures of an image: of its manifest, and of the indexes that lead to it, as those name it by digest.
pub(super) fn signatures(
    repository: &Arc<Repository>,
    fetched: &Fetched,
) -> Result<Vec<Signature>, RegistryError> {
    let mut found = Vec::new();
    for digest in fetched.indexes.iter().chain([&fetched.digest]) {
        let tag = format!("sha256-{}.sig", digest.hex());
        let Some(bytes) = repository.companion(&tag)? else {
            continue;
        };
        for (layer, signature) in listed(&bytes) {
            found.push(Signature {
                payload: repository.small(&layer)?,
                signature,
                digest: *digest,
            });
        }
    }
    Ok(found)
}

/// The payloads that a manifest of signatures lists, and their signatures. What is not in its form lists none.
pub(super) fn listed(manifest: &[u8]) -> Vec<(Descriptor, Vec<u8>)> {
    let Ok(companion) = serde_json::from_slice::<Companion>(manifest) else {
        return Vec::new();
    };
    let layers = companion.layers.into_iter().take(COUNT_MAX);
    layers
        .filter_map(|layer| {
            let text = layer.annotations.as_ref()?.get(SIGNATURE)?;
            let signature = BASE64.decode(text).ok()?;
            (layer.media_type == PAYLOAD && layer.size <= PAYLOAD_MAX).then_some((layer, signature))
        })
        .collect()
}

impl Signed {
    /// Whether one of `found` is what is demanded; why not, otherwise.
    pub(super) fn is_met(&self, found: &[Signature], image: &Reference) -> Result<(), String> {
        if found.is_empty() {
            return Err("there is no signature".to_owned());
        }
        let mut reason = format!(
            "none of its {} signatures is by an accepted key",
            found.len()
        );
        for one in found {
            let signed = self
                .keys
                .iter()
                .any(|key| key.verifies(&one.payload, &one.signature));
            if !signed {
                continue;
            }
            // Whoever wrote this holds the key, but may have meant another image.
            match self.fits(one, image) {
                Ok(()) => return Ok(()),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    fn fits(&self, one: &Signature, image: &Reference) -> Result<(), String> {
        let payload: Payload = serde_json::from_slice(&one.payload)
            .map_err(|_| "what is signed is not in the form of cosign's payload".to_owned())?;
        let Critical {
            identity,
            image: claimed,
            kind,
        } = payload.critical;
        if kind != KIND {
            return Err(format!("what is signed is {:?}", printable(&kind, 60)));
        }
        if claimed.digest != one.digest {
            return Err(format!("the signature is for {}", claimed.digest));
        }
        if !self.identity.accepts(&identity.reference, image) {
            return Err(format!(
                "the signature names {}, which the policy's signedIdentity does not accept for this image (cosign names no tag: \
                 use matchRepository)",
                printable(&identity.reference, 200)
            ));
        }
        Ok(())
    }
}

/// What is read of a payload, for the fuzz target: nothing that is not exactly right is accepted.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(payload: &[u8]) {
    let wanted = Digest::of(b"");
    let signed = Signed {
        keys: Vec::new(),
        identity: super::identity::Identity::MatchRepository,
    };
    let one = Signature {
        payload: payload.to_vec(),
        signature: Vec::new(),
        digest: wanted,
    };
    if let Ok(image) = "a.io/b:1".parse()
        && signed.fits(&one, &image).is_ok()
    {
        let text = String::from_utf8_lossy(payload);
        assert!(
            text.contains(&wanted.hex()) && text.contains("a.io/b"),
            "{text}"
        );
    }
}

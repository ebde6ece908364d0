//! Whether the name in a signature fits the image it was found with (containers-policy.json(5), `signedIdentity`). Knows no
//! signature.

use crate::reference::Reference;

/// How the two names must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// The same tag or digest.
    MatchExact,
    /// The same tag; for an image by digest, the same repository.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This name, whatever the image's is.
    ExactReference(Named),
    /// This repository, whatever the image's is.
    ExactRepository(String),
    /// As [`Identity::MatchRepoDigestOrExact`], after the image's prefix was replaced.
    Remap {
        /// What the image's name begins with.
        prefix: String,
        /// What it begins with in signatures.
        signed: String,
    },
}

/// A name that may have neither tag nor digest, as in cosign's signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    reference: Reference,
    is_bare: bool,
}

impl Named {
    fn read(text: &str) -> Option<Self> {
        let reference = text.parse().ok()?;
        let last = text.rsplit('/').next().unwrap_or_default();
        Some(Self {
            reference,
            is_bare: !last.contains([':', '@']),
        })
    }

    fn equals(&self, wanted: &Reference) -> bool {
        !self.is_bare && self.reference == *wanted
    }
}

impl Identity {
    pub(super) fn exact_reference(text: &str) -> Option<Self> {
        Named::read(text)
            .filter(|named| !named.is_bare)
            .map(Self::ExactReference)
    }

    pub(super) fn exact_repository(text: &str) -> Option<Self> {
        Named::read(text)
            .filter(|named| named.is_bare)
            .map(|named| Self::ExactRepository(named.reference.repository()))
    }

    pub(super) fn remap(prefix: String, signed: String) -> Option<Self> {
        let fine = |text: &str| {
            let probe = format!("{text}/x");
            !text.is_empty()
                && probe
                    .parse::<Reference>()
                    .is_ok_and(|reference| reference.repository() == probe)
        };
        (fine(&prefix) && fine(&signed)).then_some(Self::Remap { prefix, signed })
    }

    /// Whether a signature that names `claimed` counts for `image`.
    pub(super) fn accepts(&self, claimed: &str, image: &Reference) -> bool {
        let Some(claimed) = Named::read(claimed) else {
            return false;
        };
        match self {
            Self::MatchExact => claimed.equals(image),
            Self::MatchRepoDigestOrExact => repository_or_exact(&claimed, image),
            Self::MatchRepository => claimed.reference.repository() == image.repository(),
            Self::ExactReference(wanted) => claimed.equals(&wanted.reference),
            Self::ExactRepository(wanted) => claimed.reference.repository() == *wanted,
            Self::Remap { prefix, signed } => {
                let name = image.to_string();
                let moved = match name.strip_prefix(prefix.as_str()) {
                    Some(rest) if rest.starts_with(['/', ':', '@']) => {
                        // `host` must not stand for `host:5000`.
                        if !prefix.contains('/') && prefix != image.domain() {
                            return repository_or_exact(&claimed, image);
                        }
                        format!("{signed}{rest}")
                    }
                    _ => return repository_or_exact(&claimed, image),
                };
                moved
                    .parse()
                    .is_ok_and(|moved| repository_or_exact(&claimed, &moved))
            }
        }
    }
}

fn repository_or_exact(claimed: &Named, image: &Reference) -> bool {
    match image.digest() {
        Some(_) => claimed.reference.repository() == image.repository(),
        None => claimed.equals(image),
    }
}

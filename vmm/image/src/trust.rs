//! Whether an image may be used at all: a policy in the form of containers-policy.json(5), and signatures as cosign stores
//! them beside an image. Knows no store; asks a registry only for signatures.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::reference::{Reference, Source};
use crate::registry::{Fetched, RegistryError, Repository};

mod cosign;
mod identity;
mod key;
mod origin;
mod policy;
mod scope;
#[cfg(test)]
mod tests;

pub use cosign::Signature;
pub use origin::Origin;
pub use policy::Policy;
use policy::Requirement;

/// What a policy says of an image that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted without looking at signatures.
    Unchecked,
    /// Signed as the policy demands.
    Signed,
}

/// Why an image may not be used.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The policy or a key cannot be read.
    #[error("Cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The policy is not in its form. Half a policy is none: everything is refused.
    #[error("{path} is no valid policy: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The policy rejects the image.
    #[error("{image} is rejected by the policy in {policy} ({scope})")]
    Rejected {
        /// The image.
        image: String,
        /// The policy's file.
        policy: PathBuf,
        /// Which part of it applies.
        scope: String,
    },
    /// The policy demands something that hull cannot check.
    #[error(
        "The policy in {policy} ({scope}) demands {kind:?} for {image}, which hull cannot check"
    )]
    Unsupported {
        /// The image.
        image: String,
        /// The policy's file.
        policy: PathBuf,
        /// Which part of it applies.
        scope: String,
        /// The requirement.
        kind: String,
    },
    /// There is no signature that the policy accepts.
    #[error("{image} is not signed as the policy in {policy} ({scope}) demands: {reason}")]
    Unsigned {
        /// The image.
        image: String,
        /// The policy's file.
        policy: PathBuf,
        /// Which part of it applies.
        scope: String,
        /// What was found.
        reason: String,
    },
    /// Signatures cannot be fetched.
    #[error("The signatures of {image} cannot be fetched")]
    Fetch {
        /// The image.
        image: String,
        /// Why.
        source: Box<RegistryError>,
    },
}

impl Policy {
    /// Reads `hull/policy.json` or else `containers/policy.json`, in `$XDG_CONFIG_HOME` or else in `/etc`. Without any,
    /// everything is accepted unsigned.
    ///
    /// # Errors
    /// When a file is there and cannot be used.
    pub fn from_environment(
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, TrustError> {
        let home = variable("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
        let file = config
            .into_iter()
            .chain([PathBuf::from("/etc")])
            .flat_map(|directory| ["hull", "containers"].map(|name| directory.join(name)))
            .map(|directory| directory.join("policy.json"))
            .find(|path| path.exists());
        match file {
            Some(file) => Self::read(&file),
            None => Ok(Self::accept_anything()),
        }
    }

    /// Whether the registry may be asked for an image at all. Refuses what no signature could help.
    ///
    /// # Errors
    /// When the policy rejects it or demands what cannot be checked.
    pub fn permits(&self, reference: &Reference) -> Result<(), TrustError> {
        let scopes = scope::of_reference(reference);
        self.bare(&reference.to_string(), "docker", &scopes)
            .map(|_| ())
    }

    /// Whether an image that came from `origin` with these signatures may be used. Only an image of a registry can have
    /// any.
    ///
    /// # Errors
    /// When the policy rejects it, or demands a signature that is not there or not right.
    pub fn judge(&self, origin: &Origin, signatures: &[Signature]) -> Result<Verdict, TrustError> {
        let (transport, scopes) = origin.scopes();
        let image = origin.to_string();
        let (scope, signed) = self.bare(&image, transport, &scopes)?;
        let unsigned = |reason| TrustError::Unsigned {
            image: image.clone(),
            policy: self.path().to_owned(),
            scope: scope.clone(),
            reason,
        };
        if signed.is_empty() {
            return Ok(Verdict::Unchecked);
        }
        let Origin::Source(Source::Registry(reference)) = origin else {
            let reason = "an image outside of a registry has no signatures";
            return Err(unsigned(reason.to_owned()));
        };
        for requirement in signed {
            requirement
                .is_met(signatures, reference)
                .map_err(unsigned)?;
        }
        Ok(Verdict::Signed)
    }

    /// Whether an image of a registry may be used, and the signatures that say so.
    ///
    /// # Errors
    /// When the policy rejects it, or demands a signature that is not there or not right.
    pub fn check(
        &self,
        repository: &Arc<Repository>,
        fetched: &Fetched,
    ) -> Result<(Verdict, Vec<Signature>), TrustError> {
        let origin = Origin::of(&Source::Registry(repository.reference().clone()));
        let (transport, scopes) = origin.scopes();
        let image = origin.to_string();
        let (_, signed) = self.bare(&image, transport, &scopes)?;
        let signatures = match signed.is_empty() {
            true => Vec::new(),
            false => {
                cosign::signatures(repository, fetched).map_err(|source| TrustError::Fetch {
                    image,
                    source: Box::new(source),
                })?
            }
        };
        Ok((self.judge(&origin, &signatures)?, signatures))
    }

    /// The demands for signatures that apply, once nothing else refuses.
    fn bare(
        &self,
        image: &str,
        transport: &str,
        scopes: &[String],
    ) -> Result<(String, Vec<&policy::Signed>), TrustError> {
        let (scope, requirements) = self.requirements(transport, scopes);
        let mut signed = Vec::new();
        for requirement in requirements {
            match requirement {
                Requirement::AcceptAnything => {}
                Requirement::Reject => {
                    return Err(TrustError::Rejected {
                        image: image.to_owned(),
                        policy: self.path().to_owned(),
                        scope,
                    });
                }
                Requirement::Unsupported(kind) => {
                    return Err(TrustError::Unsupported {
                        image: image.to_owned(),
                        policy: self.path().to_owned(),
                        scope,
                        kind: kind.clone(),
                    });
                }
                Requirement::Signed(one) => signed.push(one),
            }
        }
        Ok((scope, signed))
    }
}

/// What is read of a policy and of signatures, for the fuzz target: the first is a line, the rest is the other. Keys in files are left out.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(input: &[u8]) {
    match input.split_first() {
        Some((1, payload)) => cosign::fuzz(payload),
        Some((2, manifest)) => drop(cosign::listed(manifest)),
        _ if input.windows(7).any(|window| window == b"keyPath") => {}
        _ => {
            let mut lines = input.splitn(2, |byte| *byte == b'\n');
            let policy = lines.next().unwrap_or_default();
            let scratch = crate::fuzz::Scratch::new();
            if scratch.write("hull/policy.json", policy).is_err() {
                return;
            }
            let home = |name: &str| (name == "XDG_CONFIG_HOME").then(|| scratch.0.clone().into());
            let policy = Policy::from_environment(&home);
            let signatures =
                serde_json::from_slice::<Vec<Signature>>(lines.next().unwrap_or(b"[]"));
            let (Ok(policy), Ok(signatures)) = (policy, signatures) else {
                return;
            };
            if !signatures.is_empty() {
                let text = serde_json::to_vec(&signatures).unwrap_or_default();
                let again = serde_json::from_slice::<Vec<Signature>>(&text);
                assert!(again.is_ok_and(|again| again == signatures));
            }
            let pinned = format!("a.io/b@{}", crate::Digest::of(b""));
            for name in [
                "x.a.io/b:c",
                "a.io/b:1",
                &pinned,
                "oci:/a:b",
                "-",
                "tarball:",
            ] {
                let Some(origin) = Origin::parse(name) else {
                    continue;
                };
                if let Origin::Source(Source::Registry(reference)) = &origin {
                    let _ = policy.permits(reference);
                }
                let judged = policy.judge(&origin, &signatures);
                // Whoever demands signatures of everything is content with nothing less.
                if let Ok(Verdict::Signed) = judged {
                    assert!(policy.demands_signatures() && !signatures.is_empty());
                }
            }
        }
    }
}

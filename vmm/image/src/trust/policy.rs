//! Reads a policy (containers-policy.json(5)) and finds what applies. Strict: what is unknown, double or half makes the whole
//! file invalid. Knows no image and no signature.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::TrustError;
use super::identity::Identity;
use super::key::PublicKey;

/// Largest policy or key file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Decides which images may be used.
#[derive(Debug, Clone)]
pub struct Policy {
    path: Option<PathBuf>,
    default: Vec<Requirement>,
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// One demand. All that apply must be met.
#[derive(Debug, Clone)]
pub(super) enum Requirement {
    /// `insecureAcceptAnything`
    AcceptAnything,
    /// `reject`
    Reject,
    /// `sigstoreSigned` with keys
    Signed(Signed),
    /// A kind that hull cannot check: it refuses.
    Unsupported(String),
}

/// A signature by one of `keys` that names the image as `identity` demands.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) keys: Vec<PublicKey>,
    pub(super) identity: Identity,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Raw>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Raw>>>,
}

/// A requirement as it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    key_type: Option<String>,
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<serde_json::Value>,
    pki: Option<serde_json::Value>,
    rekor_public_key_path: Option<serde_json::Value>,
    rekor_public_key_paths: Option<serde_json::Value>,
    rekor_public_key_data: Option<serde_json::Value>,
    rekor_public_key_datas: Option<serde_json::Value>,
    signed_identity: Option<RawIdentity>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawIdentity {
    #[serde(rename = "type")]
    kind: String,
    docker_reference: Option<String>,
    docker_repository: Option<String>,
    prefix: Option<String>,
    signed_prefix: Option<String>,
}

impl Policy {
    /// The policy of a machine that has none.
    #[must_use]
    pub fn accept_anything() -> Self {
        Self {
            path: None,
            default: vec![Requirement::AcceptAnything],
            transports: BTreeMap::new(),
        }
    }

    /// Reads one file, and the keys it names.
    ///
    /// # Errors
    /// When anything in it cannot be used.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        Self::parse(path, &read(path)?)
    }

    /// Reads the text of the file at `path`, and the keys it names.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, TrustError> {
        let form = |reason: String| TrustError::Form {
            path: path.to_owned(),
            reason,
        };
        let document: Document =
            serde_json::from_slice(text).map_err(|error| form(error.to_string()))?;
        let requirements = |raw: Vec<Raw>| -> Result<Vec<Requirement>, TrustError> {
            if raw.is_empty() {
                return Err(form("a list of requirements is empty".to_owned()));
            }
            raw.into_iter()
                .map(|raw| raw.requirement().map_err(|error| error.named(&form)))
                .collect()
        };
        let mut transports = BTreeMap::new();
        for (transport, scopes) in document.transports.0 {
            let mut by_scope = BTreeMap::new();
            for (scope, raw) in scopes.0 {
                by_scope.insert(scope, requirements(raw)?);
            }
            transports.insert(transport, by_scope);
        }
        Ok(Self {
            path: Some(path.to_owned()),
            default: requirements(document.default)?,
            transports,
        })
    }

    /// Whether there is a file, and not only hull's own default.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.path.is_some()
    }

    /// Whether any part of it demands signatures.
    #[must_use]
    pub fn demands_signatures(&self) -> bool {
        let scoped = self.transports.values().flat_map(BTreeMap::values);
        scoped
            .chain([&self.default])
            .flatten()
            .any(|requirement| matches!(requirement, Requirement::Signed(_)))
    }

    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("hull itself"))
    }

    /// The most specific requirements, and the name of what they apply to.
    pub(super) fn requirements(
        &self,
        transport: &str,
        scopes: &[String],
    ) -> (String, &[Requirement]) {
        let by_scope = self.transports.get(transport);
        let found = by_scope.and_then(|by_scope| {
            scopes
                .iter()
                .map(String::as_str)
                .chain([""])
                .find_map(|scope| Some((scope, by_scope.get(scope)?)))
        });
        match found {
            Some(("", found)) => (format!("default of {transport}"), found),
            Some((scope, found)) => (format!("{transport}: {scope}"), found),
            None => ("default".to_owned(), &self.default),
        }
    }
}

/// Why a requirement cannot be used.
enum Unusable {
    Reason(String),
    Key(TrustError),
}

impl Unusable {
    fn named(self, form: &dyn Fn(String) -> TrustError) -> TrustError {
        match self {
            Self::Reason(reason) => form(reason),
            Self::Key(error) => error,
        }
    }
}

impl Raw {
    fn requirement(self) -> Result<Requirement, Unusable> {
        let kind = self.kind.as_str();
        match kind {
            "insecureAcceptAnything" | "reject" => {
                if self.has_more() {
                    return Err(Unusable::Reason(format!("{kind:?} takes no other fields")));
                }
                Ok(match kind {
                    "reject" => Requirement::Reject,
                    _ => Requirement::AcceptAnything,
                })
            }
            "sigstoreSigned" => self.signed(),
            // GPG keys: a valid demand that hull has no means to check.
            "signedBy" => Ok(Requirement::Unsupported(self.kind)),
            other => Err(Unusable::Reason(format!(
                "requirement {other:?} is unknown"
            ))),
        }
    }

    fn has_more(&self) -> bool {
        self.key_type.is_some()
            || self.has_keys() > 0
            || self.has_transparency()
            || self.signed_identity.is_some()
    }

    fn has_keys(&self) -> usize {
        [
            self.key_path.is_some(),
            self.key_paths.is_some(),
            self.key_data.is_some(),
            self.key_datas.is_some(),
            self.fulcio.is_some(),
            self.pki.is_some(),
        ]
        .into_iter()
        .filter(|present| *present)
        .count()
    }

    fn has_transparency(&self) -> bool {
        self.rekor_public_key_path.is_some()
            || self.rekor_public_key_paths.is_some()
            || self.rekor_public_key_data.is_some()
            || self.rekor_public_key_datas.is_some()
    }

    fn signed(self) -> Result<Requirement, Unusable> {
        let reason = |text: &str| Err(Unusable::Reason(text.to_owned()));
        if self.has_keys() != 1 {
            return reason(
                "sigstoreSigned needs exactly one of keyPath, keyPaths, keyData and keyDatas",
            );
        }
        if self.key_type.is_some() {
            return reason("sigstoreSigned takes no keyType");
        }
        if self.fulcio.is_some() || self.pki.is_some() || self.has_transparency() {
            return Ok(Requirement::Unsupported(
                "sigstoreSigned with fulcio, pki or rekor".to_owned(),
            ));
        }
        let identity = match self.signed_identity {
            Some(raw) => raw.identity()?,
            None => Identity::MatchRepoDigestOrExact,
        };
        let mut keys = Vec::new();
        for path in self
            .key_path
            .into_iter()
            .chain(self.key_paths.into_iter().flatten())
        {
            let text = read(&path).map_err(Unusable::Key)?;
            let key = PublicKey::from_pem(&text)
                .map_err(|reason| Unusable::Reason(format!("{}: {reason}", path.display())))?;
            keys.push(key);
        }
        for data in self
            .key_data
            .into_iter()
            .chain(self.key_datas.into_iter().flatten())
        {
            let text = BASE64
                .decode(data)
                .map_err(|_| Unusable::Reason("a keyData is no base64".to_owned()))?;
            let key = PublicKey::from_pem(&text)
                .map_err(|reason| Unusable::Reason(format!("a keyData: {reason}")))?;
            keys.push(key);
        }
        if keys.is_empty() {
            return reason("a list of keys is empty");
        }
        Ok(Requirement::Signed(Signed { keys, identity }))
    }
}

impl RawIdentity {
    fn identity(self) -> Result<Identity, Unusable> {
        let Self {
            kind,
            docker_reference,
            docker_repository,
            prefix,
            signed_prefix,
        } = self;
        let fields = (docker_reference, docker_repository, prefix, signed_prefix);
        let identity = match (kind.as_str(), fields) {
            ("matchExact", (None, None, None, None)) => Some(Identity::MatchExact),
            ("matchRepoDigestOrExact", (None, None, None, None)) => {
                Some(Identity::MatchRepoDigestOrExact)
            }
            ("matchRepository", (None, None, None, None)) => Some(Identity::MatchRepository),
            ("exactReference", (Some(reference), None, None, None)) => {
                Identity::exact_reference(&reference)
            }
            ("exactRepository", (None, Some(repository), None, None)) => {
                Identity::exact_repository(&repository)
            }
            ("remapIdentity", (None, None, Some(prefix), Some(signed))) => {
                Identity::remap(prefix, signed)
            }
            _ => None,
        };
        identity
            .ok_or_else(|| Unusable::Reason(format!("signedIdentity {kind:?} is not in its form")))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let attempt = || {
        let mut text = Vec::new();
        File::open(path)?.take(FILE_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    attempt().map_err(|source| TrustError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A JSON object in which no name comes twice.
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique<T>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, value)) = access.next_entry::<String, T>()? {
                    if map.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name:?} is there twice")));
                    }
                    map.insert(name, value);
                }
                Ok(Unique(map))
            }
        }
        deserializer.deserialize_map(Names(PhantomData))
    }
}

//! Manifests and indexes: OCI image spec v1.1 and docker's v2 schema 2, which differ in media types
//! only. Bounded documents; knows not where they come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageConfig};

/// Media types that are understood.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, plain tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// docker manifest v2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// docker layer, plain tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// docker layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
}

/// Longest manifest, index or configuration that is read, in bytes (registries use the same bound).
pub const MAX_DOCUMENT: usize = 4 << 20;
/// Most layers an image may have; docker's own bound is 127.
pub const MAX_LAYERS: usize = 1024;

/// Why a manifest, an index or a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of the document's form.
    #[error("The {what} cannot be read")]
    Json {
        /// `manifest`, `index` or `configuration`.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// More bytes than [`MAX_DOCUMENT`].
    #[error("The {what} has {bytes} bytes, more than the {MAX_DOCUMENT} allowed")]
    TooLong {
        /// Which document.
        what: &'static str,
        /// Its length.
        bytes: u64,
    },
    /// docker's schema 1, an artifact, or something newer.
    #[error("Media type {0:?} is not an image manifest or index")]
    MediaType(String),
    /// A layer that is neither a plain, gzip nor zstd tar.
    #[error(
        "Layer {digest} has the media type {media_type:?}, which is not a tar that can be read"
    )]
    LayerType {
        /// The layer.
        digest: Digest,
        /// What it is said to be.
        media_type: String,
    },
    /// A layer that must be fetched from elsewhere (Windows base layers).
    #[error("Layer {0} is a foreign layer: it may not be distributed and is not fetched")]
    Foreign(Digest),
    /// The manifest and the configuration disagree.
    #[error("The manifest has {layers} layers, the configuration {diff_ids} diff-ids")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff-ids of the configuration.
        diff_ids: usize,
    },
    /// More layers than [`MAX_LAYERS`].
    #[error("The image has {0} layers, more than the {MAX_LAYERS} allowed")]
    TooManyLayers(usize),
    /// The index has nothing for the platform asked for.
    #[error("There is no image for {wanted}; the index has {}", .offered.join(", "))]
    NoPlatform {
        /// The platform asked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<String>,
    },
}

/// A reference to a blob by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The platform an index offers it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Where foreign layers live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Free annotations: `org.opencontainers.image.ref.name` is the tag in an OCI layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, also in several members.
    Gzip,
    /// zstd, also in several frames.
    Zstd,
}

impl Compression {
    /// What the first bytes say; media types are not trusted for this.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl Descriptor {
    /// Of these bytes, which are this.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            platform: None,
            urls: None,
            annotations: None,
        }
    }

    /// Refuses a layer that cannot be read: foreign ones, encrypted ones, other archives.
    pub fn check_layer(&self) -> Result<(), DocumentError> {
        let name = self.media_type.as_str();
        if name.contains(".foreign.") || name.contains(".nondistributable.") {
            return Err(DocumentError::Foreign(self.digest));
        }
        use media_type::*;
        match name {
            OCI_LAYER | OCI_LAYER_GZIP | OCI_LAYER_ZSTD | DOCKER_LAYER | DOCKER_LAYER_GZIP
            | DOCKER_LAYER_ZSTD => Ok(()),
            _ => Err(DocumentError::LayerType {
                digest: self.digest,
                media_type: name.chars().take(200).collect(),
            }),
        }
    }
}

/// Operating system and architecture in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// linux/amd64: what hull runs.
    pub fn host() -> Self {
        Self {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        }
    }

    /// Whether an image for `self` serves one who wants `wanted`.
    fn serves(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// OCI allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, oldest first.
    pub layers: Vec<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads a manifest and checks that every layer can be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let manifest: Self = document("manifest", bytes)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(DocumentError::TooManyLayers(manifest.layers.len()));
        }
        manifest
            .layers
            .iter()
            .try_for_each(Descriptor::check_layer)?;
        Ok(manifest)
    }

    /// Reads the configuration this manifest names (its digest already checked) and sees that both
    /// have the same number of layers.
    pub fn parse_config(&self, bytes: &[u8]) -> Result<ImageConfig, DocumentError> {
        let config = parse_config(bytes)?;
        let (layers, diff_ids) = (self.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(DocumentError::LayerCount { layers, diff_ids });
        }
        Ok(config)
    }
}

/// Reads an image configuration.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfig, DocumentError> {
    let config: ImageConfig = document("configuration", bytes)?;
    match config.rootfs.diff_ids.len() {
        count if count > MAX_LAYERS => Err(DocumentError::TooManyLayers(count)),
        _ => Ok(config),
    }
}

/// An image index, or docker's manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// OCI allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Manifests and nested indexes.
    pub manifests: Vec<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    /// Reads an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        document("index", bytes)
    }

    /// The first entry for `wanted`. An entry without a platform (an OCI layout's) serves everybody,
    /// but only where no other does.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, DocumentError> {
        let exact = |entry: &&Descriptor| {
            entry
                .platform
                .as_ref()
                .is_some_and(|platform| platform.serves(wanted))
        };
        let any = |entry: &&Descriptor| entry.platform.is_none();
        let entries = &self.manifests;
        entries
            .iter()
            .find(exact)
            .or_else(|| entries.iter().find(any))
            .ok_or_else(|| DocumentError::NoPlatform {
                wanted: wanted.clone(),
                offered: entries
                    .iter()
                    .filter_map(|entry| entry.platform.as_ref())
                    .take(32)
                    .map(|platform| platform.to_string().escape_default().to_string())
                    .collect(),
            })
    }
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestOrIndex {
    /// One image.
    Manifest(Manifest),
    /// A choice of images.
    Index(Index),
}

impl ManifestOrIndex {
    /// Reads either. `media_type` (a Content-Type or a descriptor's word) decides where the document
    /// does not say it itself; without both, the presence of `manifests` does.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let probe: Probe = document("manifest", bytes)?;
        let is_index = probe.manifests.is_some();
        match probe.media_type.as_deref().or(media_type) {
            Some(media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST) => {
                Manifest::parse(bytes).map(Self::Manifest)
            }
            Some(media_type::OCI_INDEX | media_type::DOCKER_LIST) => {
                Index::parse(bytes).map(Self::Index)
            }
            None | Some("application/json" | "") if is_index => {
                Index::parse(bytes).map(Self::Index)
            }
            None | Some("application/json" | "") => Manifest::parse(bytes).map(Self::Manifest),
            Some(other) => Err(DocumentError::MediaType(other.chars().take(200).collect())),
        }
    }
}

/// Reads one bounded JSON document. serde_json bounds its depth (128).
pub(crate) fn document<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, DocumentError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(DocumentError::TooLong {
            what,
            bytes: bytes.len() as u64,
        });
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })
}

#[cfg(test)]
mod tests;

//! Images in local archives and layouts: from a file or directory to the documents of one image and
//! the places of its layers. Knows no store; reads no layer.

use std::io::{self, Read};
use std::sync::Arc;

use serde::Deserialize;

use crate::convert::Layers;
use crate::files::{Files, FilesError};
use crate::manifest::{document, parse_config};
use crate::stream::Expected;
use crate::{
    Descriptor, Digest, DocumentError, Index, MAX_DOCUMENT, Manifest, ManifestOrIndex, Platform,
};

/// Annotation of an OCI layout's index that holds the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes within indexes.
const MAX_NESTING: usize = 4;

/// Why a local archive or layout yields no image.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of it is missing or broken.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A document of it is malformed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// No image has the tag.
    #[error("There is no image {tag:?} in it{}", offer(.offered))]
    Tag {
        /// The tag asked for.
        tag: String,
        /// Those there are.
        offered: Vec<String>,
    },
    /// Several images, and no tag to choose by.
    #[error("It holds {count} images: say which by a tag{}", offer(.offered))]
    Several {
        /// How many.
        count: usize,
        /// Their tags.
        offered: Vec<String>,
    },
    /// No image at all.
    #[error("It holds no image")]
    None,
    /// A document with other bytes than its digest says.
    #[error("{name:?} has the digest {found}, not {expected}")]
    Digest {
        /// Which file.
        name: String,
        /// What was said.
        expected: Digest,
        /// What there is.
        found: Digest,
    },
    /// A document of another length than announced.
    #[error("Blob {digest} has {found} bytes, {announced} were announced")]
    Size {
        /// Which blob.
        digest: Digest,
        /// What there is.
        found: u64,
        /// What was said.
        announced: u64,
    },
    /// Neither `manifest.json` nor `index.json`.
    #[error(
        "It is neither a docker archive nor an OCI layout: it has no manifest.json and no index.json"
    )]
    Kind,
    /// A packed archive that does not unpack, or to more than is allowed.
    #[error("It cannot be unpacked")]
    Unpack(#[source] io::Error),
    /// Indexes within indexes without end.
    #[error("The index is nested more than {MAX_NESTING} deep")]
    Nesting,
}

fn offer(tags: &[String]) -> String {
    match tags {
        [] => String::new(),
        tags => format!("; there is {}", tags.join(", ")),
    }
}

/// One image of an archive or layout: its documents checked, its layers not read yet.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) config_bytes: Vec<u8>,
    /// Manifest as it stands there; docker archives have none.
    pub(crate) manifest: Option<Vec<u8>>,
    /// What the archive calls it.
    pub(crate) names: Vec<String>,
    pub(crate) layers: Vec<Expected>,
    /// Name of each layer's file.
    paths: Vec<String>,
    files: Arc<Files>,
}

impl Layers for Local {
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        let path = self.paths.get(position).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(self.files.open(path).map_err(io::Error::other)?))
    }
}

/// One entry of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Opens an archive whose kind is not known: docker's, or an OCI layout's.
pub(crate) fn archive(files: Files, tag: Option<&str>) -> Result<Local, OpenError> {
    match (files.has("manifest.json"), files.has("index.json")) {
        (true, _) => docker_archive(files, tag),
        (false, true) => oci_layout(files, tag),
        (false, false) => Err(OpenError::Kind),
    }
}

/// Opens an image of a docker archive.
pub(crate) fn docker_archive(files: Files, tag: Option<&str>) -> Result<Local, OpenError> {
    let files = Arc::new(files);
    let mut images = docker_images(&files)?;
    let offered = || {
        let tags = images
            .iter()
            .filter_map(|image| image.repo_tags.as_ref())
            .flatten();
        tags.take(32)
            .map(|tag| tag.escape_default().to_string())
            .collect::<Vec<_>>()
    };
    let position = match (tag, images.len()) {
        (_, 0) => return Err(OpenError::None),
        (None, 1) => 0,
        (None, count) => {
            return Err(OpenError::Several {
                count,
                offered: offered(),
            });
        }
        (Some(tag), _) => images
            .iter()
            .position(|image| {
                image
                    .repo_tags
                    .iter()
                    .flatten()
                    .any(|name| same_tag(name, tag))
            })
            .ok_or_else(|| OpenError::Tag {
                tag: tag.to_owned(),
                offered: offered(),
            })?,
    };
    docker_image(&files, images.swap_remove(position))
}

/// Opens every image of an archive: all of a docker archive, all an OCI layout has for this platform.
pub(crate) fn all(files: Files) -> Result<Vec<Local>, OpenError> {
    let files = Arc::new(files);
    if files.has("manifest.json") {
        let images = docker_images(&files)?;
        return images
            .into_iter()
            .map(|image| docker_image(&files, image))
            .collect();
    }
    if !files.has("index.json") {
        return Err(OpenError::Kind);
    }
    let index = Index::parse(&files.read("index.json", MAX_DOCUMENT)?)?;
    let here = Platform::host();
    let offered = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_none_or(|there| there.os == here.os && there.architecture == here.architecture)
    };
    let entries = index.manifests.into_iter().filter(|entry| offered(&entry));
    entries.map(|entry| follow(&files, entry)).collect()
}

fn docker_images(files: &Files) -> Result<Vec<DockerImage>, OpenError> {
    let bytes = files.read("manifest.json", MAX_DOCUMENT)?;
    Ok(document("manifest", &bytes)?)
}

fn docker_image(files: &Arc<Files>, image: DockerImage) -> Result<Local, OpenError> {
    let config_bytes = files.read(&image.config, MAX_DOCUMENT)?;
    let found = Digest::of(&config_bytes);
    if let Some(expected) = digest_in_name(&image.config).filter(|expected| *expected != found) {
        let name = image.config.chars().take(200).collect();
        return Err(OpenError::Digest {
            name,
            expected,
            found,
        });
    }
    let config = parse_config(&config_bytes)?;
    let paths = image.layers.unwrap_or_default();
    if paths.len() != config.rootfs.diff_ids.len() {
        let diff_ids = config.rootfs.diff_ids.len();
        return Err(DocumentError::LayerCount {
            layers: paths.len(),
            diff_ids,
        }
        .into());
    }
    let mut layers = Vec::with_capacity(paths.len());
    for (path, diff_id) in paths.iter().zip(&config.rootfs.diff_ids) {
        let size = files.open(path)?.length();
        let digest = path
            .strip_prefix("blobs/sha256/")
            .and_then(|hex| Digest::from_hex(hex).ok());
        layers.push(Expected {
            digest,
            size,
            diff_id: *diff_id,
        });
    }
    let names = image.repo_tags.unwrap_or_default();
    Ok(Local {
        config_bytes,
        manifest: None,
        names,
        layers,
        paths,
        files: files.clone(),
    })
}

/// The digest a configuration's name in a docker archive holds, where it holds one.
fn digest_in_name(name: &str) -> Option<Digest> {
    let hex = name
        .strip_suffix(".json")
        .or_else(|| name.strip_prefix("blobs/sha256/"))?;
    Digest::from_hex(hex).ok()
}

/// Whether `name`, as an archive writes it, is what the user means by `wanted`.
fn same_tag(name: &str, wanted: &str) -> bool {
    fn full(name: &str) -> String {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name);
        match name
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'))
        {
            true => name.to_owned(),
            false => format!("{name}:latest"),
        }
    }
    full(name) == full(wanted)
}

/// Opens an image of an OCI layout.
pub(crate) fn oci_layout(files: Files, tag: Option<&str>) -> Result<Local, OpenError> {
    let index = Index::parse(&files.read("index.json", MAX_DOCUMENT)?)?;
    let entry = choose(&index, tag)?.clone();
    follow(&Arc::new(files), entry)
}

/// From an entry of an index through further indexes to an image.
fn follow(files: &Arc<Files>, mut entry: Descriptor) -> Result<Local, OpenError> {
    let names = name_of(&entry).map(str::to_owned).into_iter().collect();
    for _ in 0..MAX_NESTING {
        let bytes = blob(files, &entry)?;
        match ManifestOrIndex::parse(&bytes, Some(&entry.media_type))? {
            ManifestOrIndex::Index(index) => entry = index.select(&Platform::host())?.clone(),
            ManifestOrIndex::Manifest(manifest) => return image(files, bytes, &manifest, names),
        }
    }
    Err(OpenError::Nesting)
}

fn image(
    files: &Arc<Files>,
    bytes: Vec<u8>,
    manifest: &Manifest,
    names: Vec<String>,
) -> Result<Local, OpenError> {
    let config_bytes = blob(files, &manifest.config)?;
    let config = manifest.parse_config(&config_bytes)?;
    let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let layers = layers.map(|(layer, diff_id)| Expected {
        digest: Some(layer.digest),
        size: layer.size,
        diff_id: *diff_id,
    });
    let layers = layers.collect();
    let paths = manifest
        .layers
        .iter()
        .map(|layer| blob_path(&layer.digest))
        .collect();
    Ok(Local {
        config_bytes,
        manifest: Some(bytes),
        names,
        layers,
        paths,
        files: files.clone(),
    })
}

fn name_of(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations
        .as_ref()?
        .get(REF_NAME)
        .map(String::as_str)
}

/// The entry with the tag, or the only image there is for this platform.
fn choose<'a>(index: &'a Index, tag: Option<&str>) -> Result<&'a Descriptor, OpenError> {
    let entries = &index.manifests;
    let names = entries.iter().filter_map(name_of).take(32);
    let offered = names
        .map(|name| name.escape_default().to_string())
        .collect();
    match tag {
        Some(tag) => entries
            .iter()
            .find(|entry| name_of(entry).is_some_and(|name| name == tag || same_tag(name, tag)))
            .ok_or_else(|| OpenError::Tag {
                tag: tag.to_owned(),
                offered,
            }),
        None => match entries.len() {
            0 => Err(OpenError::None),
            count if count > 1 && entries.iter().any(|entry| entry.platform.is_none()) => {
                Err(OpenError::Several { count, offered })
            }
            _ => Ok(index.select(&Platform::host())?),
        },
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A document by its descriptor, checked.
fn blob(files: &Files, entry: &Descriptor) -> Result<Vec<u8>, OpenError> {
    let name = blob_path(&entry.digest);
    let bytes = files.read(&name, MAX_DOCUMENT)?;
    let found = bytes.len() as u64;
    if found != entry.size {
        return Err(OpenError::Size {
            digest: entry.digest,
            found,
            announced: entry.size,
        });
    }
    let found = Digest::of(&bytes);
    if found != entry.digest {
        return Err(OpenError::Digest {
            name,
            expected: entry.digest,
            found,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

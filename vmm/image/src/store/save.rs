//! Saving: images of the store as an archive that docker, podman and skopeo load. Blobs go out byte for
//! byte as they came in.
//!
//! The archive is an OCI layout in a tar; docker's `manifest.json` beside it makes it a docker archive
//! as well, the way docker itself has written them since version 25.

use std::io::{self, Read, Write};

use crate::reference::Reference;
use crate::tar::{self, Entry, Kind, Time};
use crate::{Digest, DocumentError, Manifest, Store, StoreError, media_type};

use super::Image;
use super::blobs::blob_name;

/// Which archive to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's, which is an OCI layout too.
    Docker,
    /// An OCI layout only.
    Oci,
}

/// Why an image cannot be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Converted from an archive that was not loaded: its layers were not kept.
    #[error("The layers of image {0} were not kept: load or pull it, then it can be saved")]
    NotKept(Digest),
    /// A blob that should be there.
    #[error("Blob {0} is missing or damaged")]
    Missing(Digest),
    /// Its manifest cannot be read.
    #[error("The manifest of image {image} is damaged")]
    Manifest {
        /// The image.
        image: Digest,
        /// Why.
        source: Box<DocumentError>,
    },
    /// Where it should go.
    #[error("The archive cannot be written")]
    Write(#[from] io::Error),
}

/// An archive under way.
struct Archive<'a, 'b> {
    store: &'a Store,
    to: &'b mut dyn Write,
    written: Vec<Digest>,
}

impl Store {
    /// Writes images with their names into one archive.
    ///
    /// # Errors
    /// When a blob is not there or not what its digest says, or the archive cannot be written.
    pub fn save(
        &self,
        images: &[(Image, Vec<Reference>)],
        format: Format,
        to: &mut dyn Write,
    ) -> Result<(), SaveError> {
        let _adding = self.adding()?;
        let mut archive = Archive {
            store: self,
            to,
            written: Vec::new(),
        };
        let (mut entries, mut docker) = (Vec::new(), Vec::new());
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for (image, names) in images {
            let digest = image.manifest.ok_or(SaveError::NotKept(image.id))?;
            let bytes = self.read_blob(&digest)?.ok_or(SaveError::Missing(digest))?;
            let manifest = Manifest::parse(&bytes).map_err(|source| SaveError::Manifest {
                image: image.id,
                source: Box::new(source),
            })?;
            for layer in &manifest.layers {
                archive.blob(&layer.digest, layer.size)?;
            }
            archive.blob(&manifest.config.digest, manifest.config.size)?;
            archive.blob(&digest, bytes.len() as u64)?;
            let kind = manifest
                .media_type
                .as_deref()
                .unwrap_or(media_type::OCI_MANIFEST);
            entries.extend(index_entries(kind, &digest, bytes.len(), names));
            docker.push(serde_json::json!({
                "Config": blob_name(&manifest.config.digest),
                "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
                "Layers": manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect::<Vec<_>>(),
            }));
        }
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
        });
        archive.file("index.json", index.to_string().as_bytes())?;
        if format == Format::Docker {
            let manifest = serde_json::Value::from(docker);
            archive.file("manifest.json", manifest.to_string().as_bytes())?;
        }
        archive.to.write_all(&[0; 1024])?;
        Ok(archive.to.flush()?)
    }
}

/// One entry for each name; without a name, one without.
fn index_entries(
    kind: &str,
    digest: &Digest,
    size: usize,
    names: &[Reference],
) -> Vec<serde_json::Value> {
    let entry = |annotations: serde_json::Value| {
        let mut entry = serde_json::json!({ "mediaType": kind, "digest": digest, "size": size });
        if let (Some(object), false) = (entry.as_object_mut(), annotations.is_null()) {
            object.insert("annotations".to_owned(), annotations);
        }
        entry
    };
    if names.is_empty() {
        return vec![entry(serde_json::Value::Null)];
    }
    let named = |name: &Reference| {
        entry(serde_json::json!({
            "io.containerd.image.name": name.to_string(),
            "org.opencontainers.image.ref.name": name.to_string(),
        }))
    };
    names.iter().map(named).collect()
}

impl Archive<'_, '_> {
    fn header(&mut self, name: &str, size: u64) -> io::Result<()> {
        let entry = Entry {
            path: name.as_bytes().to_vec(),
            kind: Kind::File { size, map: None },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        self.to.write_all(&tar::header(&entry))
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let count = usize::try_from(size.wrapping_neg() % 512).unwrap_or(0);
        self.to.write_all(&vec![0; count])
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.header(name, bytes.len() as u64)?;
        self.to.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// A blob, once, its digest checked as it passes.
    fn blob(&mut self, digest: &Digest, size: u64) -> Result<(), SaveError> {
        if self.written.contains(digest) {
            return Ok(());
        }
        self.written.push(*digest);
        let file = self
            .store
            .open_blob(digest)?
            .ok_or(SaveError::Missing(*digest))?;
        if file.metadata()?.len() != size {
            return Err(SaveError::Missing(*digest));
        }
        self.header(&blob_name(digest), size)?;
        let mut hasher = crate::Hasher::new();
        let mut from = file.take(size);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            let piece = buffer.get(..count).unwrap_or_default();
            hasher.update(piece);
            self.to.write_all(piece)?;
        }
        if hasher.finish() != *digest {
            return Err(SaveError::Missing(*digest));
        }
        Ok(self.pad(size)?)
    }
}

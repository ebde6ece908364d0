//! Loading: an image of an archive comes into the store with everything it had: its layers byte for
//! byte, its manifest, its names. What `save` and `push` need.

use std::fs::File;
use std::io::{self, Read, Write};

use super::blobs::blob_name;
use super::directory::Temporary;
use super::{Arrival, GetError, Image, Store};
use crate::convert::{ConvertError, Layers};
use crate::files::{self, Files};
use crate::layer::LayerError;
use crate::local::{self, Local, OpenError};
use crate::reference::{Reference, Source};
use crate::stream::{self, Expected, StreamError};
use crate::trust::Origin;
use crate::{Compression, Digest, Hasher, media_type};

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// What it is called now, as the archive says.
    pub names: Vec<Reference>,
}

/// What is being loaded.
struct Arriving<'a> {
    /// What errors call it.
    label: &'a dyn std::fmt::Display,
    origin: &'a Origin,
    names: &'a [Reference],
}

/// A packed layer that has no name in the store yet.
struct Packed<'a> {
    temporary: Temporary<'a>,
    digest: Digest,
    size: u64,
    compression: Compression,
}

/// Layers just copied into the store.
struct Copied<'a, 'b> {
    layers: &'b [Packed<'a>],
    opened: usize,
}

impl Layers for Copied<'_, '_> {
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        self.opened += 1;
        let layer = self.layers.get(position).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(files::whole(layer.temporary.file())?))
    }
}

impl Store {
    /// Loads every image of an archive or layout, or the one its tag names, and names them as it says.
    ///
    /// # Errors
    /// When it is broken, or nothing can be written. Images loaded before that stay.
    pub fn load(&self, source: &Source) -> Result<Vec<Loaded>, GetError> {
        let open = |error| GetError::open(source, error);
        let locals = match source {
            Source::Stdin => local::all(self.open_stdin(source)?),
            Source::Oci { path, tag: None } => local::all(Files::Directory(path.clone())),
            Source::Oci { path, tag } => {
                local::oci_layout(Files::Directory(path.clone()), tag.as_deref())
                    .map(|one| vec![one])
            }
            Source::DockerArchive { path, name: tag } | Source::OciArchive { path, tag } => {
                let file = files::open(path).map_err(|error| open(error.into()))?;
                let files = self.open_archive(file).map_err(open)?;
                match tag {
                    None => local::all(files),
                    Some(tag) => local::archive(files, Some(tag)).map(|one| vec![one]),
                }
            }
            other => return Err(GetError::Remote(other.to_string())),
        };
        let mut loaded = Vec::new();
        for local in locals.map_err(open)? {
            loaded.push(self.load_one(source, local)?);
        }
        Ok(loaded)
    }

    fn load_one(&self, source: &Source, mut local: Local) -> Result<Loaded, GetError> {
        let _adding = self.adding()?;
        let expected = std::mem::take(&mut local.layers);
        let config = std::mem::take(&mut local.config_bytes);
        let manifest = local.manifest.take();
        let names = std::mem::take(&mut local.names);
        let names: Vec<Reference> = names.iter().filter_map(|name| full_name(name)).collect();
        let arriving = Arriving {
            label: source,
            origin: &Origin::of(source),
            names: &names,
        };
        let image = self.keep_image(&arriving, &config, manifest, &expected, &mut local)?;
        Ok(Loaded { image, names })
    }

    /// Makes an image of one layer, the plain or packed tar of a root file system, and names it. `label` is
    /// what errors call it; `config` makes the configuration for its diff-id.
    ///
    /// # Errors
    /// When the tar is broken, or nothing can be written.
    pub fn import(
        &self,
        label: &str,
        tar: &mut dyn Read,
        name: Option<&Reference>,
        config: impl FnOnce(&Digest) -> Vec<u8>,
    ) -> Result<Image, GetError> {
        let _adding = self.adding()?;
        let unreadable = |error| GetError::open(&label, OpenError::Unpack(error));
        let layer = self.copy(tar, u64::MAX).map_err(unreadable)?;
        let diff_id = self.diff_id(&layer).map_err(unreadable)?;
        let expected = Expected {
            digest: Some(layer.digest),
            size: layer.size,
            diff_id,
        };
        let arriving = Arriving {
            label: &label,
            origin: &Origin::Tarball,
            names: name.map(std::slice::from_ref).unwrap_or_default(),
        };
        self.keep_copied(&arriving, &config(&diff_id), None, &[expected], vec![layer])
    }

    fn keep_image(
        &self,
        arriving: &Arriving<'_>,
        config: &[u8],
        manifest: Option<Vec<u8>>,
        expected: &[Expected],
        layers: &mut dyn Layers,
    ) -> Result<Image, GetError> {
        let mut copied = Vec::with_capacity(expected.len());
        for (position, expected) in expected.iter().enumerate() {
            let number = position + 1;
            let wrong = |error| GetError::Convert {
                image: arriving.label.to_string(),
                source: error,
            };
            let unreadable = |source| wrong(ConvertError::Open { number, source });
            let mut packed = layers.open(position).map_err(unreadable)?;
            let layer = self.copy(&mut packed, expected.size).map_err(unreadable)?;
            if let Some(digest) = expected.digest.filter(|digest| *digest != layer.digest) {
                let error = StreamError::Digest {
                    expected: digest,
                    found: layer.digest,
                };
                let source = Box::new(LayerError::Stream(error));
                let diff_id = expected.diff_id;
                return Err(wrong(ConvertError::Layer {
                    number,
                    diff_id,
                    source,
                }));
            }
            copied.push(layer);
        }
        self.keep_copied(arriving, config, manifest, expected, copied)
    }

    /// Converts layers that lie in the store, then gives them and the manifest their names.
    fn keep_copied(
        &self,
        arriving: &Arriving<'_>,
        config: &[u8],
        manifest: Option<Vec<u8>>,
        expected: &[Expected],
        copied: Vec<Packed<'_>>,
    ) -> Result<Image, GetError> {
        let mut layers = Copied {
            layers: &copied,
            opened: 0,
        };
        let image = self.convert(config, expected, &mut layers);
        let mut image = image.map_err(|error| GetError::add(arriving.label, error))?;
        // What was in the store already has not been compared with these bytes.
        for (position, expected) in expected.iter().enumerate().skip(layers.opened) {
            let number = position + 1;
            let image = || arriving.label.to_string();
            let packed = layers.open(position).map_err(|source| GetError::Convert {
                image: image(),
                source: ConvertError::Open { number, source },
            })?;
            let checked = stream::unpack(packed, expected, &self.limits, u64::MAX, |input| {
                io::copy(input, &mut io::sink())
                    .map(drop)
                    .map_err(|error| LayerError::Tar(error.into()))
            });
            checked.map_err(|error| GetError::Convert {
                image: image(),
                source: ConvertError::Layer {
                    number,
                    diff_id: expected.diff_id,
                    source: Box::new(error),
                },
            })?;
        }
        let manifest = manifest.unwrap_or_else(|| make_manifest(config, &copied));
        let mut new = Vec::new();
        for layer in copied {
            if !self.has_blob(&layer.digest)? {
                new.push((layer.temporary, blob_name(&layer.digest)));
            }
        }
        self.directory.commit(new)?;
        let manifest = Some(self.put_blob(&manifest)?);
        let arrival = Arrival {
            origin: arriving.origin,
            manifest,
            signatures: &[],
            names: arriving.names,
            top: manifest,
        };
        self.settle(&mut image, &arrival)?;
        Ok(image)
    }

    /// Copies a packed layer of at most `most` bytes into the store.
    fn copy(&self, from: &mut dyn Read, most: u64) -> io::Result<Packed<'_>> {
        let temporary = self.directory.create().map_err(io::Error::other)?;
        let mut to: &File = temporary.file();
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let (mut size, mut compression) = (0_u64, None);
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let piece = buffer.get(..count).unwrap_or_default();
            compression.get_or_insert(Compression::sniff(piece));
            size += count as u64;
            if size > most {
                return Err(io::Error::other(StreamError::Longer(most)));
            }
            hasher.update(piece);
            to.write_all(piece)?;
        }
        let compression = compression.unwrap_or(Compression::None);
        Ok(Packed {
            temporary,
            digest: hasher.finish(),
            size,
            compression,
        })
    }

    /// Digest of what a copied layer unpacks to.
    fn diff_id(&self, layer: &Packed<'_>) -> io::Result<Digest> {
        let packed = Box::new(files::whole(layer.temporary.file())?);
        let limits = &self.limits;
        stream::measure(packed, layer.size, limits)
    }
}

/// The name an archive gives, if it is one: a bare tag of an OCI layout is none.
fn full_name(name: &str) -> Option<Reference> {
    let name: Option<Reference> = name
        .contains([':', '/', '@'])
        .then(|| name.parse().ok())
        .flatten();
    name.filter(|name| name.tag().is_some() && name.digest().is_none())
}

/// The manifest of an image that came without one.
fn make_manifest(config: &[u8], layers: &[Packed<'_>]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let kind = match layer.compression {
                Compression::None => media_type::OCI_LAYER,
                Compression::Gzip => media_type::OCI_LAYER_GZIP,
                Compression::Zstd => media_type::OCI_LAYER_ZSTD,
            };
            let (digest, size) = (layer.digest, layer.size);
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{}]}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        Digest::of(config),
        config.len(),
        layers.join(",")
    )
    .into_bytes()
}

//! Writes container images: layers as tar archives, then around them what `docker save` writes or an OCI layout. The same
//! calls give the same bytes. Knows nothing of what hull makes of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The time of every entry that does not say otherwise, in seconds since 1970.
pub const TIME: u64 = 1_700_000_000;

/// The permissions, owner and time of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
}

/// What most entries have: root's, with these permissions.
pub const fn mode(mode: u32) -> Attributes {
    Attributes {
        mode,
        owner: (0, 0),
    }
}

impl Attributes {
    /// Another owner and group.
    #[must_use]
    pub const fn owned(self, user: u64, group: u64) -> Self {
        Self {
            owner: (user, group),
            ..self
        }
    }
}

/// One layer, as an uncompressed tar archive in memory.
pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// A layer that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tar: tar::Builder::new(Vec::new()),
        }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: impl AsRef<Path>, attributes: Attributes) -> Result<()> {
        self.entry(tar::EntryType::Directory, path.as_ref(), attributes, &[])
    }

    /// Adds a regular file.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        attributes: Attributes,
        content: &[u8],
    ) -> Result<()> {
        self.entry(tar::EntryType::Regular, path.as_ref(), attributes, content)
    }

    /// Adds a named pipe.
    pub fn pipe(&mut self, path: impl AsRef<Path>, attributes: Attributes) -> Result<()> {
        self.entry(tar::EntryType::Fifo, path.as_ref(), attributes, &[])
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let mut header = header(tar::EntryType::Symlink, mode(0o777), 0);
        Ok(self.tar.append_link(&mut header, path, target)?)
    }

    /// Adds another name for a file of this layer or of one below.
    pub fn hard_link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let mut header = header(tar::EntryType::Link, mode(0o644), 0);
        Ok(self.tar.append_link(&mut header, path, target)?)
    }

    /// Adds a device node.
    pub fn device(
        &mut self,
        kind: tar::EntryType,
        path: impl AsRef<Path>,
        attributes: Attributes,
        (major, minor): (u32, u32),
    ) -> Result<()> {
        let mut header = header(kind, attributes, 0);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        Ok(self.tar.append_data(&mut header, path, &[][..])?)
    }

    /// Says more of the next entry, in PAX records such as `mtime` or `SCHILY.xattr.user.note`.
    pub fn records(&mut self, records: &[(&str, &[u8])]) -> Result<()> {
        Ok(self.tar.append_pax_extensions(records.iter().copied())?)
    }

    /// Adds an entry whose path is written as it is, however hostile.
    pub fn raw(
        &mut self,
        kind: tar::EntryType,
        path: &[u8],
        link: &[u8],
        content: &[u8],
    ) -> Result<()> {
        let mut header = header(kind, mode(0o644), content.len() as u64);
        copy(&mut header.as_old_mut().name, path);
        copy(&mut header.as_old_mut().linkname, link);
        header.set_cksum();
        Ok(self.tar.append(&header, content)?)
    }

    /// The archive's bytes.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.tar.into_inner()?)
    }

    fn entry(
        &mut self,
        kind: tar::EntryType,
        path: &Path,
        attributes: Attributes,
        content: &[u8],
    ) -> Result<()> {
        let mut header = header(kind, attributes, content.len() as u64);
        Ok(self.tar.append_data(&mut header, path, content)?)
    }
}

fn copy(field: &mut [u8], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}

fn header(kind: tar::EntryType, attributes: Attributes, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(attributes.mode);
    header.set_uid(attributes.owner.0);
    header.set_gid(attributes.owner.1);
    header.set_mtime(TIME);
    header.set_size(size);
    header
}

/// How the blobs of an OCI image's layers are compressed.
#[derive(Clone, Copy, Debug)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// A whole image: its layers, lowest first, and the configuration's `config` part.
pub struct Image {
    /// Uncompressed layers.
    pub layers: Vec<Vec<u8>>,
    /// `Cmd`, `Env` and so on, as the OCI image specification's configuration has them.
    pub config: Value,
}

impl Image {
    fn configuration(&self) -> Vec<u8> {
        let layers: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let value = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": layers },
        });
        value.to_string().into_bytes()
    }

    /// As `docker save` writes it: a tar archive with a `manifest.json`.
    pub fn docker_archive(&self, tag: &str) -> Result<Vec<u8>> {
        let configuration = self.configuration();
        let name = format!("{}.json", hexadecimal(&configuration));
        let mut outer = Layer::new();
        let mut layers = Vec::new();
        for layer in &self.layers {
            let directory = hexadecimal(layer);
            let path = format!("{directory}/layer.tar");
            if !layers.contains(&path) {
                outer.directory(&directory, mode(0o755))?;
                outer.file(&path, mode(0o644), layer)?;
            }
            layers.push(path);
        }
        outer.file(&name, mode(0o644), &configuration)?;
        let manifest = json!([{ "Config": name, "RepoTags": [tag], "Layers": layers }]);
        outer.file(
            "manifest.json",
            mode(0o644),
            manifest.to_string().as_bytes(),
        )?;
        outer.finish()
    }

    /// The files of an OCI layout, by path.
    pub fn oci(&self, tag: &str, compression: Compression) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let mut blob = |kind: &str, bytes: Vec<u8>| -> Value {
            let (digest, size) = (digest(&bytes), bytes.len());
            files.insert(format!("blobs/sha256/{}", hexadecimal(&bytes)), bytes);
            json!({ "mediaType": kind, "digest": digest, "size": size })
        };
        let config = blob(
            "application/vnd.oci.image.config.v1+json",
            self.configuration(),
        );
        let mut layers = Vec::new();
        for layer in &self.layers {
            let (suffix, bytes) = compress(layer, compression)?;
            layers.push(blob(
                &format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                bytes,
            ));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        let mut entry = blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().into_bytes(),
        );
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        files.insert("index.json".into(), index.to_string().into_bytes());
        files.insert(
            "oci-layout".into(),
            json!({ "imageLayoutVersion": "1.0.0" })
                .to_string()
                .into_bytes(),
        );
        Ok(files)
    }

    /// An OCI layout as one tar archive.
    pub fn oci_archive(&self, tag: &str, compression: Compression) -> Result<Vec<u8>> {
        let mut outer = Layer::new();
        for (path, bytes) in self.oci(tag, compression)? {
            outer.file(path, mode(0o644), &bytes)?;
        }
        outer.finish()
    }
}

fn compress(layer: &[u8], compression: Compression) -> Result<(&'static str, Vec<u8>)> {
    Ok(match compression {
        Compression::Plain => ("", layer.to_vec()),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(layer)?;
            ("+gzip", gzip.finish()?)
        }
        Compression::Zstd => ("+zstd", zstd::encode_all(layer, 3).context("zstd failed")?),
    })
}

/// `sha256:` and the digest of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(bytes))
}

/// The SHA-256 of some bytes in hexadecimal.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

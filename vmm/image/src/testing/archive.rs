//! Archives for tests: tar headers byte by byte, so that they can be wrong; docker archives and OCI
//! layouts around them.

use std::path::{Path, PathBuf};

use crate::Digest;

/// A tar under construction.
#[derive(Default, Clone)]
pub(crate) struct Tar {
    pub(crate) bytes: Vec<u8>,
}

/// A header with everything a test may want to set.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) block: [u8; 512],
}

impl Header {
    pub(crate) fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut header = Self { block: [0; 512] };
        header.put(0, &name[..name.len().min(100)]);
        header
            .number(100, 8, 0o644)
            .number(108, 8, 0)
            .number(116, 8, 0);
        header.number(124, 12, size).number(136, 12, 1_700_000_000);
        header.block[156] = kind;
        header.put(257, b"ustar\x0000");
        header
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn number(&mut self, at: usize, length: usize, value: u64) -> &mut Self {
        let width = length - 1;
        let text = format!("{value:0width$o}");
        if text.len() <= width {
            self.put(at, text.as_bytes()).put(at + width, b"\0")
        } else {
            let bytes = value.to_be_bytes();
            self.put(at, &vec![0; length]).put(at + length - 8, &bytes);
            self.block[at] |= 0x80;
            self
        }
    }

    pub(crate) fn mode(mut self, mode: u64) -> Self {
        self.number(100, 8, mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.number(108, 8, uid).number(116, 8, gid);
        self
    }

    pub(crate) fn mtime(mut self, seconds: u64) -> Self {
        self.number(136, 12, seconds);
        self
    }

    pub(crate) fn link(mut self, target: &[u8]) -> Self {
        self.put(157, target);
        self
    }

    pub(crate) fn device(mut self, major: u64, minor: u64) -> Self {
        self.number(329, 8, major).number(337, 8, minor);
        self
    }

    /// As GNU marks its archives.
    pub(crate) fn gnu(mut self) -> Self {
        self.put(257, b"ustar  \0");
        self
    }

    pub(crate) fn sealed(mut self) -> [u8; 512] {
        self.put(148, b"        ");
        let sum: u64 = self.block.iter().map(|byte| u64::from(*byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self.block
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A header and its data, padded.
    pub(crate) fn entry(self, header: Header, data: &[u8]) -> Self {
        let mut tar = self.raw(&header.sealed()).raw(data);
        tar.bytes.resize(tar.bytes.len().next_multiple_of(512), 0);
        tar
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(Header::new(name.as_bytes(), b'0', data.len() as u64), data)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(Header::new(name.as_bytes(), b'5', 0).mode(0o755), &[])
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let header = Header::new(name.as_bytes(), b'2', 0).mode(0o777);
        self.entry(header.link(target.as_bytes()), &[])
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(
            Header::new(name.as_bytes(), b'1', 0).link(target.as_bytes()),
            &[],
        )
    }

    /// A PAX header for the next entry.
    pub(crate) fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let bytes: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        self.entry(
            Header::new(b"PaxHeaders/x", b'x', bytes.len() as u64),
            &bytes,
        )
    }

    /// A GNU long name (`L`) or long link (`K`).
    pub(crate) fn long(self, kind: u8, name: &[u8]) -> Self {
        let bytes = [name, b"\0"].concat();
        self.entry(
            Header::new(b"././@LongLink", kind, bytes.len() as u64).gnu(),
            &bytes,
        )
    }

    /// The two blocks of zeros that end an archive.
    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).bytes
    }
}

/// One PAX record; its length counts itself.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// A configuration for layers with these plain bytes.
pub(crate) fn config(layers: &[Vec<u8>], execution: &str) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let diff_ids = serde_json::to_string(&diff_ids).unwrap();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{execution},
        "rootfs":{{"type":"layers","diff_ids":{diff_ids}}}}}"#
    )
    .into_bytes()
}

/// A docker archive as podman writes it. Returns its bytes.
pub(crate) fn docker_archive(layers: &[Vec<u8>], tag: &str) -> Vec<u8> {
    let config = config(layers, r#"{"Cmd":["sh"],"Env":["A=b"],"User":"7"}"#);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let mut tar = Tar::new();
    let mut names = Vec::new();
    for layer in layers {
        let name = format!("{}.tar", Digest::of(layer).hex());
        if !names.contains(&name) {
            tar = tar.file(&name, layer);
        }
        names.push(name);
    }
    let names = serde_json::to_string(&names).unwrap();
    let manifest =
        format!(r#"[{{"Config":"{config_name}","RepoTags":["{tag}"],"Layers":{names}}}]"#);
    tar.file(&config_name, &config)
        .file("manifest.json", manifest.as_bytes())
        .end()
}

/// How to pack a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

pub(crate) fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    use std::io::Write;
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// Lays an OCI image out in `directory`; returns it. `tag` is the annotation in its index.
pub(crate) fn oci_layout(
    directory: &Path,
    layers: &[Vec<u8>],
    packing: Packing,
    tag: &str,
) -> PathBuf {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(
            r#""mediaType":"{media_type}","digest":"{digest}","size":{}"#,
            bytes.len()
        )
    };
    let oci = "application/vnd.oci.image";
    let suffix = match packing {
        Packing::Plain => "",
        Packing::Gzip => "+gzip",
        Packing::Zstd => "+zstd",
    };
    let config = put(
        &format!("{oci}.config.v1+json"),
        &config(layers, r#"{"Cmd":["sh"]}"#),
    );
    let layers: Vec<String> = layers
        .iter()
        .map(|layer| {
            let packed = pack(layer, packing);
            format!(
                "{{{}}}",
                put(&format!("{oci}.layer.v1.tar{suffix}"), &packed)
            )
        })
        .collect();
    let layers = layers.join(",");
    let manifest = format!(r#"{{"schemaVersion":2,"config":{{{config}}},"layers":[{layers}]}}"#);
    let manifest = put(&format!("{oci}.manifest.v1+json"), manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{{manifest},
        "annotations":{{"org.opencontainers.image.ref.name":"{tag}"}}}}]}}"#
    );
    std::fs::write(directory.join("index.json"), index).unwrap();
    std::fs::write(
        directory.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    directory.to_owned()
}

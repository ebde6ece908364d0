//! Bodies of the fuzz targets for layers and for archives of images. Refuses to know what is right:
//! nothing may panic, no bound may be passed, and the same bytes give the same image.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::convert::checksum_of;
use crate::erofs::{self, DataWriter, Finished};
use crate::files::Files;
use crate::layer::{self, LayerError};
use crate::tree::Tree;
use crate::{
    Descriptor, Limits, Manifest, ManifestOrIndex, Platform, files, local, manifest, stream,
};

#[cfg(test)]
mod tests;

/// Most bytes of a file that is copied.
const MOST: usize = 1 << 12;

/// Bounds small enough that passing one is noticed.
fn limits() -> Limits {
    Limits {
        entries: 2000,
        metadata: 4 << 20,
        image: 64 << 20,
        ..Limits::default()
    }
}

/// Any bytes as a tar: what looks like a header gets a right checksum, or no mutation would ever be
/// read further than that.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block.get(257..262) != Some(b"ustar") {
            continue;
        }
        if let Some(sum) = block.get_mut(148..156) {
            sum.fill(b' ');
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        if let Some(field) = block.get_mut(148..156) {
            field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

fn memory() -> Option<File> {
    rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC)
        .map(File::from)
        .ok()
}

fn convert(layers: &[&[u8]]) -> Option<(Result<Finished, LayerError>, File)> {
    let file = memory()?;
    let limits = limits();
    let mut tree = Tree::new(limits.clone());
    let mut data = DataWriter::new(&file, limits.image);
    let applied = layers
        .iter()
        .try_for_each(|bytes| layer::apply(*bytes, &mut tree, &mut data));
    let result = applied.and_then(|()| Ok(erofs::finish(data, &tree, [0; 16])?));
    Some((result, file))
}

/// Two layers, one above the other, as an image. The first two bytes say where the second starts.
pub fn layers(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let first = usize::from(u16::from_le_bytes(*length)) * 512;
    let (lower, upper) = rest.split_at(first.min(rest.len()));
    let (lower, upper) = (sealed(lower), sealed(upper));
    let Some((Ok(finished), file)) = convert(&[&lower, &upper]) else {
        return;
    };
    let length = finished.bytes;
    assert_eq!(checksum_of(&file, length).ok(), Some(finished.checksum));
    assert!(length <= limits().image, "{length} bytes");
    assert_eq!(length % erofs::BLOCK, 0);
    let Some((again, other)) = convert(&[&lower, &upper]) else {
        return;
    };
    assert_eq!(again.ok(), Some(finished));
    let digest = |file| crate::convert::digest_of(file, length).ok();
    assert_eq!(digest(&file), digest(&other));
}

/// A directory of its own, which goes when this goes.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(format!("hull-fuzz-image-{process}-{count}")))
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
        std::fs::write(path, bytes)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An archive's files as those of a directory, in which they must be the same.
fn layout(files: &Files, tag: Option<&str>) {
    let Files::Archive { members, .. } = files else {
        return;
    };
    let scratch = Scratch::new();
    let directory = || Files::Directory(scratch.0.clone());
    let names = members
        .keys()
        .filter_map(|name| std::str::from_utf8(name).ok());
    for name in names {
        // What is too long there, or is a directory as well, is left out.
        if let Ok(bytes) = files.read(name, MOST)
            && scratch.write(name, &bytes).is_ok()
        {
            let again = directory().read(name, MOST);
            assert_eq!(again.ok().as_ref(), Some(&bytes), "{name}");
        }
    }
    assert!(directory().open("").is_err(), "a directory is no file");
    let _ = local::oci_layout(directory(), tag).map_err(|error| error.to_string());
}

/// What may be packed, unpacked by way of a file.
fn packed(bytes: &[u8]) {
    let file = memory().and_then(|mut file| file.write_all(bytes).ok().map(|()| file));
    let Some(file) = file else { return };
    let limits = Limits {
        expansion: 16,
        free_expansion: 1 << 16,
        ..limits()
    };
    // All of it, and half of it.
    for share in [1, 2] {
        if let Ok(part) = files::whole(&file) {
            let length = part.length() / share;
            let _ = stream::measure(Box::new(part), length, &limits);
        }
    }
}

/// An archive of images, or one of its documents. The first byte chooses.
pub fn archive(bytes: &[u8]) {
    let Some((choice, input)) = bytes.split_first() else {
        return;
    };
    match choice % 4 {
        0 => {
            packed(input);
            let sealed = sealed(input);
            let open = || {
                let mut file = memory()?;
                file.write_all(&sealed).ok()?;
                Files::archive(file).ok()
            };
            for mut image in open()
                .and_then(|files| local::all(files).ok())
                .unwrap_or_default()
            {
                let layers = std::mem::take(&mut image.layers);
                if let Some(file) = memory() {
                    let _ = crate::convert::convert(&file, &layers, &mut image, &limits());
                }
            }
            for tag in [None, Some("b:1")] {
                if let Some(files) = open() {
                    layout(&files, tag);
                    let _ = local::archive(files, tag).map_err(|error| error.to_string());
                }
            }
        }
        1 => {
            if let Ok(ManifestOrIndex::Index(index)) = ManifestOrIndex::parse(input, None) {
                let _ = index
                    .select(&Platform::host())
                    .map_err(|error| error.to_string());
            }
        }
        2 => {
            if let Ok(manifest) = Manifest::parse(input) {
                let _ = manifest.parse_config(input);
                let readable = |layer: &Descriptor| layer.check_layer().is_ok();
                assert!(manifest.layers.iter().all(readable), "{manifest:?}");
            }
        }
        _ => {
            if let Ok(config) = manifest::parse_config(input) {
                let text = serde_json::to_vec(&config).unwrap_or_default();
                assert!(manifest::parse_config(&text).is_ok_and(|again| again == config));
            }
        }
    }
}

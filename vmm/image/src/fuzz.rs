//! Bodies of the fuzz targets for layers and for archives of images. Refuses to know what is right:
//! nothing may panic, no bound may be passed, and the same bytes give the same image.

use std::fs::File;
use std::io::Write;

use crate::convert::checksum_of;
use crate::erofs::{self, DataWriter, Finished};
use crate::files::Files;
use crate::layer::{self, LayerError};
use crate::tree::Tree;
use crate::{Limits, Manifest, ManifestOrIndex, Platform, local, manifest};

#[cfg(test)]
mod tests;

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

/// An archive of images, or one of its documents. The first byte chooses.
pub fn archive(bytes: &[u8]) {
    let Some((choice, input)) = bytes.split_first() else {
        return;
    };
    match choice % 4 {
        0 => {
            let Some(mut file) = memory() else { return };
            if file.write_all(&sealed(input)).is_err() {
                return;
            }
            let Ok(files) = Files::archive(file) else {
                return;
            };
            for mut image in local::all(files).unwrap_or_default() {
                let layers = std::mem::take(&mut image.layers);
                if let Some(file) = memory() {
                    let _ = crate::convert::convert(&file, &layers, &mut image, &limits());
                }
            }
        }
        1 => {
            if let Ok(ManifestOrIndex::Index(index)) = ManifestOrIndex::parse(input, None) {
                let _ = index.select(&Platform::host());
            }
        }
        2 => {
            let _ = Manifest::parse(input).map(|manifest| manifest.parse_config(input));
        }
        _ => {
            if let Ok(config) = manifest::parse_config(input) {
                let text = serde_json::to_vec(&config).unwrap_or_default();
                assert!(manifest::parse_config(&text).is_ok_and(|again| again == config));
            }
        }
    }
}

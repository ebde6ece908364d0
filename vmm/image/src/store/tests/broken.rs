//! Read errors, of what comes in and of the store's own files: nothing that is whole is lost by them, nothing half is kept.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use super::{Fixture, contents, layer};
use crate::reference::{Reference, Source};
use crate::testing::archive::{Packing, Tar, config, docker_archive, oci_layout};
use crate::{Digest, Expected, Format, Layers};

/// Layers of which no byte after `left` can be read.
struct Failing {
    layers: Vec<Vec<u8>>,
    left: usize,
}

struct FailingReader<'a> {
    bytes: Cursor<&'a [u8]>,
    left: &'a mut usize,
}

impl Read for FailingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.left == 0 {
            return Err(io::Error::other("the line is dead"));
        }
        let most = buffer.len().min(*self.left);
        let count = self.bytes.read(&mut buffer[..most])?;
        *self.left -= count;
        Ok(count)
    }
}

impl Layers for Failing {
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        if self.left == 0 {
            return Err(io::Error::other("the line is dead"));
        }
        let bytes = Cursor::new(&self.layers[position][..]);
        let left = &mut self.left;
        Ok(Box::new(FailingReader { bytes, left }))
    }
}

#[test]
fn a_source_that_fails_at_any_byte_leaves_the_store_as_it_was() {
    let fixture = Fixture::new();
    let good = docker_archive(&[layer("good")], "good:1");
    fixture.store.load(&fixture.archive(&good)).unwrap();
    let before = contents(&fixture.root());
    let layers: Vec<Vec<u8>> = (0..3)
        .map(|number| {
            let tar = Tar::new().file(&format!("f{number}"), &[number; 5000]);
            tar.end()
        })
        .collect();
    let expected: Vec<Expected> = layers
        .iter()
        .map(|layer| Expected {
            digest: None,
            size: layer.len() as u64,
            diff_id: Digest::of(layer),
        })
        .collect();
    let config = config(&layers, "{}");
    let all: usize = layers.iter().map(Vec::len).sum();
    for left in (0..all).step_by(97).chain([all - 1]) {
        let layers = layers.clone();
        let mut source = Failing { layers, left };
        let outcome = fixture.store.convert(&config, &expected, &mut source);
        assert!(outcome.is_err(), "after {left} bytes");
        assert_eq!(contents(&fixture.root()), before, "after {left} bytes");
    }
    let left = all + 1;
    let mut source = Failing { layers, left };
    let image = fixture.store.convert(&config, &expected, &mut source);
    fixture.store.open_root(&image.unwrap()).unwrap();
}

/// A file whose bytes cannot be read while this lives: a directory in its place answers EISDIR.
struct Unreadable {
    path: PathBuf,
    aside: PathBuf,
}

impl Unreadable {
    fn new(path: &Path, aside: &Path) -> Self {
        std::fs::rename(path, aside).unwrap();
        std::fs::create_dir(path).unwrap();
        let (path, aside) = (path.to_owned(), aside.to_owned());
        Self { path, aside }
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.path).unwrap();
        std::fs::rename(&self.aside, &self.path).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_read_costs_no_other_one() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let source = |tag: &str| {
        let path = fixture.work.path().join(tag);
        let layers = [layer("lower"), layer(tag)];
        Source::Oci {
            path: oci_layout(&path, &layers, Packing::Gzip, tag),
            tag: None,
        }
    };
    let kept: Reference = "kept:1".parse().unwrap();
    let image = store.load(&source("kept:1")).unwrap().remove(0).image;
    let files = contents(&fixture.root());
    let save = || {
        let (mut bytes, images) = (Vec::new(), [(image.clone(), vec![kept.clone()])]);
        store.save(&images, Format::Docker, &mut bytes).unwrap();
        bytes
    };
    let saved = save();
    let aside = fixture.work.path().join("aside");
    for line in files {
        let file = line.split(' ').next().unwrap();
        store.load(&source("other:1")).unwrap();
        let unreadable = Unreadable::new(&fixture.root().join(file), &aside);
        // Whatever is done now may fail, or work where the file is not needed.
        let outcomes = [
            store.list().is_ok(),
            store.usage().is_ok(),
            store.named(&kept).is_ok(),
            store.config(&image.id).is_ok(),
            store.load(&source("kept:1")).is_ok(),
            store.remove("other:1", false).is_ok(),
            store.prune(false).is_ok(),
            store.load(&source("other:1")).is_ok(),
        ];
        // … and whoever looks is told.
        let found = store.check(false);
        assert!(
            !matches!(&found, Ok(problems) if problems.is_empty()),
            "{file}: {outcomes:?}"
        );
        drop(unreadable);
        // With the file, the image is whole again.
        let there = store.named(&kept).unwrap();
        let there = there.unwrap_or_else(|| panic!("{file}: {outcomes:?}"));
        assert_eq!(
            (there.id, there.manifest),
            (image.id, image.manifest),
            "{file}"
        );
        store.open_root(&image).unwrap();
        assert!(save() == saved, "{file}");
        assert_eq!(store.check(false).unwrap(), [], "{file}");
    }
}

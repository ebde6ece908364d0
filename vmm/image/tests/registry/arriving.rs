//! Converting while downloading: what it adds to the slower of the two, whichever that is, and where they are equally slow.
//!
//! `cargo test --release -p image --test registry arriving -- --nocapture` prints the figures.

use std::io::{Cursor, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::registry::{Downloads, Progress};
use image::{Digest, Expected, Layers, Manifest, Platform, Pull, Store, media_type};

use crate::faults::{Action, Faults, Link};
use crate::fixture::{Home, Image, Registry, descriptor, name};

/// An image, and a link to it.
#[derive(Clone, Copy)]
struct Course {
    layers: u64,
    /// Of each layer, unpacked.
    megabytes: usize,
    /// The link's bandwidth, measured by how fast the image is converted.
    link: f64,
}

/// Layers as programs and texts are: half of it repeats.
const COMMON: Course = Course {
    layers: 30,
    megabytes: 4,
    link: 1.0,
};

fn packed(number: u64, course: Course) -> (Vec<u8>, Digest) {
    let mut tar = tar::Builder::new(Vec::new());
    for file in 0..course.megabytes {
        let mut noise = crate::fixture::noise(number * 1000 + file as u64, 500_000);
        noise.resize(1_000_000, b'x');
        let mut header = tar::Header::new_gnu();
        header.set_size(noise.len() as u64);
        header.set_mode(0o644);
        let path = format!("layer{number}/file{file}");
        tar.append_data(&mut header, path, &noise[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let diff_id = Digest::of(&tar);
    let level = flate2::Compression::fast();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), level);
    packer.write_all(&tar).unwrap();
    (packer.finish().unwrap(), diff_id)
}

fn image(course: Course) -> (Image, Vec<Expected>) {
    let packed: Vec<_> = (0..course.layers)
        .map(|number| packed(number, course))
        .collect();
    let diff_ids: Vec<Digest> = packed.iter().map(|(_, diff_id)| *diff_id).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let describe = |(bytes, _): &(Vec<u8>, Digest)| descriptor(media_type::OCI_LAYER_GZIP, bytes);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: descriptor(media_type::OCI_CONFIG, &config),
        layers: packed.iter().map(describe).collect(),
        annotations: None,
    };
    let expected = packed
        .iter()
        .map(|(bytes, diff_id)| Expected {
            digest: Some(Digest::of(bytes)),
            size: bytes.len() as u64,
            diff_id: *diff_id,
        })
        .collect();
    let image = Image {
        manifest: serde_json::to_vec(&manifest).unwrap(),
        config,
        layers: packed.into_iter().map(|(bytes, _)| bytes).collect(),
    };
    (image, expected)
}

struct Here<'a>(&'a [Vec<u8>]);

impl Layers for Here<'_> {
    fn open(&mut self, position: usize) -> std::io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Cursor::new(&self.0[position][..])))
    }
}

/// Seconds that conversion, download, and both at once take.
fn seconds(course: Course) -> [f64; 3] {
    let registry = Registry::start();
    let home = Home::new();
    let (image, expected) = image(course);
    image.publish(&home.client(), &registry.name("app:1"));
    let store = |label: &str| Store::open(&home.path().join(label)).unwrap();

    let convert = |label: &str| {
        let started = Instant::now();
        let mut here = Here(&image.layers);
        let converted = store(label).convert(&image.config, &expected, &mut here);
        converted.unwrap();
        started.elapsed()
    };
    // The first one warms up.
    convert("warm");
    let conversion = convert("converted");

    let bytes: usize = image.layers.iter().map(Vec::len).sum();
    let link = Link::new(course.link * bytes as f64 / conversion.as_secs_f64());
    let faults = Faults::start(&registry.address, move |seen| match seen.is_blob() {
        true => Action::Paced(link.clone()),
        false => Action::Pass,
    });
    let from = name(&faults.address, "app:1");
    let client = home.client();
    let started = Instant::now();
    let repository = Arc::new(client.open(&from).unwrap());
    let fetched = repository.manifest(&Platform::host()).unwrap();
    let watcher: Arc<dyn Progress> = home.watcher.clone();
    let file = |_: &_| tempfile::tempfile_in(home.path());
    let downloads = Downloads::start(&repository, &fetched.manifest.layers, &watcher, file);
    downloads.unwrap().wait().unwrap();
    let download = started.elapsed();

    let pull = Pull {
        client: &client,
        policy: None,
        platform: Platform::host(),
        progress: home.watcher.clone(),
    };
    let started = Instant::now();
    store("pulled").pull(&from, &pull).unwrap();
    let both = started.elapsed();
    [conversion, download, both].map(|time: Duration| time.as_secs_f64())
}

/// What converting while downloading adds to the slower of the two: the first of some tries below the bound. A tenth is the
/// promise; the rest is for machines that do other things meanwhile.
fn adds(what: &str, course: Course, bound: f64) {
    let mut tries = Vec::new();
    // What else runs on this machine comes in between now and then, but not always.
    for _ in 0..12 {
        let [conversion, download, both] = seconds(course);
        let added = both / conversion.max(download) - 1.0;
        eprintln!(
            "{what}: conversion {conversion:.2} s, download {download:.2} s, both at once {both:.2} s: {:+.0} %",
            added * 100.0
        );
        if added < bound {
            return;
        }
        tries.push(added);
    }
    panic!("{what}: {tries:?}");
}

#[test]
fn converting_adds_little_to_a_download_that_is_slower() {
    let course = Course {
        megabytes: 10,
        link: 0.5,
        ..COMMON
    };
    adds("a slow link", course, 0.15);
}

/// Here registry, link and hull are three who want the processors at the same time. One after the other it were 1.0.
#[test]
fn both_at_once_where_they_are_equally_slow_gain_most_of_it() {
    adds("equally slow", COMMON, 0.25);
}

/// Few layers of one size come in parts, the first layer's first: converting them is not left to the end.
#[test]
fn three_equal_layers_overlap_too() {
    let mut tries = Vec::new();
    for _ in 0..4 {
        let [conversion, download, both] = seconds(Course {
            layers: 3,
            megabytes: 20,
            ..COMMON
        });
        eprintln!(
            "3 layers: conversion {conversion:.2} s, download {download:.2} s, both at once {both:.2} s"
        );
        if both < conversion.max(download) + conversion.min(download) / 2.0 {
            return;
        }
        tries.push(both);
    }
    panic!("{tries:?}");
}

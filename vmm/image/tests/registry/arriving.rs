//! Converting keeps up with the download: the rest of an image is let through only when what came before is converted.
//!
//! No clock decides here. What it adds in time is a row of `cargo xtask bench`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use image::{Platform, Pull, Store};

use crate::faults::{Action, Faults, Seen};
use crate::fixture::{Home, Image, Registry, name, noise};

const MIB: usize = 1 << 20;

/// A layer of files of 1 MiB, not compressed: as long as what becomes of it in the image.
fn layer(number: usize, files: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in 0..files {
        let mut header = tar::Header::new_gnu();
        header.set_size(MIB as u64);
        header.set_mode(0o644);
        let bytes = noise((number * 1000 + file) as u64, MIB);
        let path = format!("layer{number}/file{file}");
        tar.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Bytes that the unfinished files of a store take: layers as they came, and the image that is made of them.
fn unfinished(store: &Path) -> usize {
    let Ok(files) = std::fs::read_dir(store.join("tmp")) else {
        return 0;
    };
    let size = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.metadata().ok();
    let blocks: u64 = files.filter_map(size).map(|file| file.blocks()).sum();
    usize::try_from(blocks * 512).unwrap()
}

/// Where in its layer the answer to a request begins.
fn offset(seen: &Seen) -> usize {
    let range = seen.header("range").unwrap_or("bytes=0-");
    let start = range.trim_start_matches("bytes=").split('-').next();
    start.unwrap().parse().unwrap()
}

/// Pulls an image over a link that never runs further ahead of the conversion than `window` bytes.
fn pull_within(window: usize, layers: usize, files: usize) {
    let registry = Registry::start();
    let mut home = Home::new();
    let image = Image::new((0..layers).map(|number| layer(number, files)).collect());
    image.publish(&home.client(), &registry.name("app:1"));
    // A pull that waits for what is held back fails, and with it this test.
    home.limits.attempts = 1;

    let place = home.path().join("store");
    let watched = place.clone();
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| image::Digest::of(layer).hex())
        .collect();
    let sizes: Vec<_> = image.layers.iter().map(Vec::len).collect();
    let faults = Faults::start(&registry.address, move |seen| {
        let Some(number) = layers.iter().position(|layer| seen.target.contains(layer)) else {
            return Action::Pass;
        };
        let start = sizes[..number].iter().sum::<usize>() + offset(seen);
        let watched = watched.clone();
        Action::Paced(Box::new(move |before, _| {
            // It arrived, and it was converted: twice.
            let behind = || unfinished(&watched) < 2 * (start + before).saturating_sub(window);
            // By a minute the client has given up.
            for _ in 0..30_000 {
                if !behind() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }))
    });
    let client = home.client();
    let pull = Pull {
        client: &client,
        policy: None,
        platform: Platform::host(),
        progress: home.watcher.clone(),
    };
    let pulled = Store::open(&place)
        .unwrap()
        .pull(&name(&faults.address, "app:1"), &pull);
    assert!(pulled.unwrap().is_new);
}

/// At the end a tenth is left to convert, at most.
#[test]
fn many_layers_are_converted_while_they_arrive() {
    pull_within(6 * MIB, 30, 2);
}

/// Large layers come in parts over all connections; `registry/download/shares.rs` holds which are first.
#[test]
fn three_equal_layers_are_converted_while_they_arrive() {
    pull_within(6 * MIB, 3, 20);
}

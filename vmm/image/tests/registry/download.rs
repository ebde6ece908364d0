//! Layers in parallel, read while they arrive.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use image::registry::{Downloads, Progress, RegistryError, Repository};
use image::{Descriptor, Digest, media_type};

use crate::faults::{Action, Faults, Seen};
use crate::fixture::{Home, Image, Registry, name, noise};

fn layers(image: &Image) -> Vec<Descriptor> {
    let describe = |layer: &Vec<u8>| Descriptor::of(media_type::OCI_LAYER, layer);
    image.layers.iter().map(describe).collect()
}

fn repository(home: &Home, address: &str) -> Arc<Repository> {
    Arc::new(home.client().open(&name(address, "app:1")).unwrap())
}

fn start(home: &Home, repository: &Arc<Repository>, layers: &[Descriptor]) -> Downloads {
    let watcher: Arc<dyn Progress> = home.watcher.clone();
    Downloads::start(repository, layers, &watcher, |_| tempfile::tempfile()).unwrap()
}

fn published(count: u64) -> (Registry, Home, Image) {
    let registry = Registry::start();
    let home = Home::new();
    let image = Image::new((0..count).map(|n| noise(n + 1, 400_000)).collect());
    image.publish(&home.client(), &registry.name("app:1"));
    (registry, home, image)
}

#[test]
fn several_at_once_and_each_is_read_whole() {
    let (registry, home, image) = published(7);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen_most = most.clone();
    let faults = Faults::start(&registry.address, move |seen| {
        if seen.is_blob() {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(200));
            now.fetch_sub(1, Ordering::Relaxed);
        }
        Action::Pass
    });
    let repository = repository(&home, &faults.address);
    let mut twice = layers(&image);
    twice.extend(layers(&image));
    let downloads = start(&home, &repository, &twice);
    for (layer, expected) in layers(&image).iter().zip(&image.layers) {
        let mut got = Vec::new();
        downloads
            .reader(&layer.digest)
            .unwrap()
            .read_to_end(&mut got)
            .unwrap();
        assert!(got == *expected);
        // It can be read again.
        assert_eq!(
            std::io::copy(
                &mut downloads.reader(&layer.digest).unwrap(),
                &mut std::io::sink()
            )
            .unwrap(),
            400_000
        );
    }
    downloads.wait().unwrap();
    assert!(downloads.reader(&Digest::of(b"other")).is_none());
    let most = seen_most.load(Ordering::Relaxed);
    assert!((2..=image::registry::PARALLEL).contains(&most), "{most}");
    assert_eq!(home.watcher.count("begins"), 7 + 8);
    assert_eq!(faults.count(Seen::is_blob), 7);
}

#[test]
fn a_layer_is_readable_before_it_is_complete() {
    let (registry, mut home, image) = published(1);
    home.limits.stall = Duration::from_secs(9);
    let faults = Faults::start(&registry.address, |seen| {
        match seen.is_blob() && seen.earlier == 0 {
            true => Action::Stall(300_000),
            false => Action::Pass,
        }
    });
    let repository = repository(&home, &faults.address);
    let downloads = start(&home, &repository, &layers(&image));
    let mut reader = downloads.reader(&layers(&image)[0].digest).unwrap();
    let mut first = vec![0; 200_000];
    let started = Instant::now();
    reader.read_exact(&mut first).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    assert!(first == image.layers[0][..200_000]);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest == image.layers[0][200_000..]);
}

/// What a layer of 9 MB that is fetched from `faults` holds, and the ranges that were asked for.
fn large(script: impl Fn(&Seen) -> Action + Send + Sync + 'static) -> Vec<Option<String>> {
    let registry = Registry::start();
    let home = Home::new();
    let image = Image::new(vec![noise(1, 9 << 20), noise(2, 1000)]);
    image.publish(&home.client(), &registry.name("app:1"));
    let faults = Faults::start(&registry.address, script);
    let repository = repository(&home, &faults.address);
    let downloads = start(&home, &repository, &layers(&image));
    for (layer, expected) in layers(&image).iter().zip(&image.layers) {
        let mut got = Vec::new();
        let mut reader = downloads.reader(&layer.digest).unwrap();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == *expected);
    }
    downloads.wait().unwrap();
    // Three were sent before.
    assert_eq!(home.watcher.count("ends"), 3 + 2);
    let large = layers(&image)[0].digest.hex();
    let seen = faults.seen();
    let asked = seen.iter().filter(|seen| seen.target.contains(&large));
    asked
        .map(|seen| seen.header("range").map(str::to_owned))
        .collect()
}

#[test]
fn a_large_layer_comes_in_parts_over_all_connections() {
    let mut ranges = large(|_| Action::Pass);
    ranges.sort();
    let part =
        |start: usize, end: usize| Some(format!("bytes={}-{}", start << 20, (end << 20) - 1));
    let last = Some(format!("bytes={}-", 6 << 20));
    assert_eq!(ranges, [part(0, 2), part(2, 4), part(4, 6), last]);
}

#[test]
fn a_part_that_breaks_goes_on_where_it_broke() {
    let ranges = large(|seen| match (seen.header("range"), seen.is_blob()) {
        (Some("bytes=2097152-4194303"), true) => Action::Cut(500_000),
        _ => Action::Pass,
    });
    let rest = |range: &Option<String>| {
        let range = range.as_deref().unwrap_or_default();
        range.ends_with("-4194303") && range != "bytes=2097152-4194303"
    };
    assert_eq!(
        ranges.iter().filter(|range| rest(range)).count(),
        1,
        "{ranges:?}"
    );
}

#[test]
fn a_server_without_ranges_is_asked_for_a_large_layer_once() {
    assert_eq!(large(|_| Action::Without("range")).len(), 1);
}

#[test]
fn one_broken_layer_ends_them_all() {
    let (registry, mut home, image) = published(5);
    home.limits.stall = Duration::from_secs(2);
    let bad = Digest::of(&image.layers[1]).hex();
    let faults = Faults::start(&registry.address, move |seen| match seen.is_blob() {
        true if seen.target.contains(&bad) => Action::Flip(390_000),
        true => Action::Stall(100),
        false => Action::Pass,
    });
    let repository = repository(&home, &faults.address);
    let downloads = start(&home, &repository, &layers(&image));
    let error = std::io::copy(
        &mut downloads.reader(&layers(&image)[1].digest).unwrap(),
        &mut std::io::sink(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("was changed on the way"),
        "{error}"
    );
    downloads.wait().unwrap_err();
    let started = Instant::now();
    drop(downloads);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    // The last one was never asked for.
    let last = Digest::of(&image.layers[4]).hex();
    assert_eq!(faults.count(|seen| seen.target.contains(&last)), 0);
}

#[test]
fn dropping_stops_the_transfers() {
    let (registry, mut home, image) = published(4);
    home.limits.stall = Duration::from_secs(2);
    let faults = Faults::start(&registry.address, |seen| match seen.is_blob() {
        true => Action::Stall(1000),
        false => Action::Pass,
    });
    let repository = repository(&home, &faults.address);
    let downloads = start(&home, &repository, &layers(&image));
    let mut reader = downloads.reader(&layers(&image)[0].digest).unwrap();
    let mut some = [0; 10];
    reader.read_exact(&mut some).unwrap();
    let started = Instant::now();
    drop(downloads);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    let error = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[test]
fn a_file_that_cannot_be_made_is_an_error() {
    let (registry, home, image) = published(1);
    let repository = repository(&home, &registry.address);
    let watcher: Arc<dyn Progress> = home.watcher.clone();
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let refused = Downloads::start(&repository, &layers(&image), &watcher, |_| Err(full()));
    assert!(matches!(refused.err(), Some(RegistryError::Local { .. })));
    // A file that cannot be written, as on a full disk.
    let downloads = Downloads::start(&repository, &layers(&image), &watcher, |_| {
        std::fs::OpenOptions::new().write(true).open("/dev/full")
    })
    .unwrap();
    let error = downloads.wait().unwrap_err();
    assert!(
        error.to_string().contains("Cannot use the file of layer"),
        "{error}"
    );
}

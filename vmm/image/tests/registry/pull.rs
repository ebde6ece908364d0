//! Transfers that break and are mended, or end in bounded time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::Platform;
use image::registry::{Fault, RegistryError};

use crate::faults::{Action, Faults};
use crate::fixture::{Home, Image, Registry, name, noise};

/// An image of two layers in a fresh registry.
pub(crate) fn published() -> (Registry, Home, Image) {
    let registry = Registry::start();
    let home = Home::new();
    let image = Image::new(vec![noise(1, 300_000), noise(2, 5_000)]);
    image.publish(&home.client(), &registry.name("app:1"));
    (registry, home, image)
}

/// The error of pulling the manifest, configuration and layers through `faults`.
pub(crate) fn failure(home: &Home, address: &str) -> RegistryError {
    let repository = Arc::new(home.client().open(&name(address, "app:1")).unwrap());
    let fetched = match repository.manifest(&Platform::host()) {
        Ok(fetched) => fetched,
        Err(error) => return error,
    };
    if let Err(error) = repository.config(&fetched.manifest, &Platform::host()) {
        return error;
    }
    for layer in &fetched.manifest.layers {
        if let Err(error) = std::io::copy(&mut repository.blob(layer), &mut std::io::sink()) {
            return error.downcast().unwrap();
        }
    }
    panic!("nothing failed");
}

#[test]
fn what_was_pushed_is_pulled_by_tag_and_by_digest() {
    let (registry, home, image) = published();
    let client = home.client();
    image.assert_pulled(&client, &registry.name("app:1"));
    let pinned = registry.name(&format!("app@{}", image.digest()));
    image.assert_pulled(&client, &pinned);
    let claimed = client.open(&pinned).unwrap().head().unwrap();
    assert_eq!(claimed, Some(image.digest()));
    let other = registry
        .name("app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let error = client
        .open(&other)
        .unwrap()
        .manifest(&Platform::host())
        .unwrap_err();
    assert!(matches!(error, RegistryError::Absent { .. }), "{error}");
}

#[test]
fn a_cut_transfer_goes_on_where_it_broke() {
    let (registry, home, image) = published();
    let faults = Faults::start(&registry.address, |seen| match seen.earlier {
        0 if seen.is_manifest() => Action::Close,
        0..3 if seen.is_blob() => Action::Cut(40_000),
        _ => Action::Pass,
    });
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    let ranges: Vec<_> = faults
        .seen()
        .iter()
        .filter_map(|seen| seen.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["bytes=40000-", "bytes=80000-", "bytes=120000-"]);
    assert_eq!(home.watcher.count("waiting"), 4);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (registry, home, image) = published();
    let faults = Faults::start(&registry.address, |seen| match seen.earlier {
        0 if seen.is_blob() => Action::Cut(100_000),
        _ => Action::Without("range"),
    });
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
}

#[test]
fn a_transfer_that_never_gets_on_ends() {
    let (registry, home, _) = published();
    let faults = Faults::start(&registry.address, |seen| match seen.is_blob() {
        true if seen
            .target
            .contains(&image::Digest::of(&noise(1, 300_000)).hex()) =>
        {
            Action::Cut(10)
        }
        _ => Action::Pass,
    });
    let error = failure(&home, &faults.address);
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Broken(_))),
        "{error}"
    );
    assert_eq!(faults.count(|seen| seen.header("range").is_some()), 3);
}

#[test]
fn silence_times_out_and_is_tried_again() {
    let (registry, mut home, image) = published();
    home.limits.stall = Duration::from_secs(2);
    home.limits.document = Duration::from_secs(5);
    let faults = Faults::start(&registry.address, |seen| match seen.earlier {
        0 if seen.is_manifest() => Action::Hang,
        0 if seen.is_blob() => Action::Stall(1000),
        _ => Action::Pass,
    });
    let started = Instant::now();
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    // Manifest, configuration (shorter than the stall) and two layers.
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    assert!(home.watcher.count("waiting") >= 3);

    let dead = Faults::start(&registry.address, |seen| match seen.is_manifest() {
        true => Action::Hang,
        false => Action::Pass,
    });
    let started = Instant::now();
    let error = failure(&home, &dead.address);
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Stalled)),
        "{error}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn single_bytes_are_as_good_as_silence() {
    let (registry, mut home, _) = published();
    home.limits.stall = Duration::from_secs(1);
    let faults = Faults::start(&registry.address, |seen| match seen.is_blob() {
        true => Action::Drip,
        false => Action::Pass,
    });
    let repository = Arc::new(home.client().open(&name(&faults.address, "app:1")).unwrap());
    let fetched = repository.manifest(&Platform::host()).unwrap();
    let started = Instant::now();
    let mut blob = repository.blob(&fetched.manifest.layers[0]);
    let error = std::io::copy(&mut blob, &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("Timed out"), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_busy_server_is_given_the_time_it_asks_for_within_bounds() {
    let (registry, home, image) = published();
    let faults = Faults::start(&registry.address, |seen| match seen.earlier {
        0 if seen.is_manifest() => Action::Answer(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1".to_owned(),
            br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#.to_vec(),
        ),
        0 | 1 if seen.is_blob() => {
            Action::Answer("HTTP/1.1 503 Unavailable".to_owned(), Vec::new())
        }
        _ => Action::Pass,
    });
    let started = Instant::now();
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(home.watcher.count("waiting"), 1 + 2 * 3);

    let patient = Faults::start(&registry.address, |seen| match seen.is_manifest() {
        true => Action::Answer("HTTP/1.1 429 X\r\nRetry-After: 3600".to_owned(), Vec::new()),
        false => Action::Pass,
    });
    let started = Instant::now();
    let error = failure(&home, &patient.address);
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Busy { seconds: 3600 })),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(60));

    let down = Faults::start(&registry.address, |seen| match seen.is_manifest() {
        true => Action::Answer("HTTP/1.1 502 Bad Gateway".to_owned(), Vec::new()),
        false => Action::Pass,
    });
    let error = failure(&home, &down.address);
    assert!(error.to_string().contains("502"), "{error}");
    assert_eq!(down.count(crate::faults::Seen::is_manifest), 4);
}

#[test]
fn nobody_at_home_fails_at_once() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let started = Instant::now();
    let error = failure(&home, &address);
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Connect(_))),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(error.to_string().starts_with(&address), "{error}");
}

#[test]
fn a_redirect_elsewhere_is_followed_for_content() {
    let (registry, home, image) = published();
    let content = Faults::start(&registry.address, |_| Action::Pass);
    let to = content.address.replace("127.0.0.1", "localhost");
    let faults = Faults::start(&registry.address, move |seen| match seen.is_blob() {
        true => Action::Answer(
            format!(
                "HTTP/1.1 307 X\r\nLocation: http://{to}{}?sig=secret",
                seen.target
            ),
            Vec::new(),
        ),
        false => Action::Pass,
    });
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    assert_eq!(content.count(|seen| seen.target.contains("sig=secret")), 3);
}

#[test]
fn mirrors_are_tried_in_order_and_the_registry_last() {
    let (registry, home, image) = published();
    let empty = Registry::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mirror = Faults::start(&registry.address, |seen| match seen.is_blob() {
        true => Action::Answer("HTTP/1.1 404 X".to_owned(), Vec::new()),
        false => Action::Pass,
    });
    home.write(
        "registries.conf",
        format!(
            "[[registry]]\nprefix='example.test/a'\nlocation='{}'\ninsecure=true\n\
             [[registry.mirror]]\nlocation='{dead}'\n[[registry.mirror]]\nlocation='{}'\n[[registry.mirror]]\nlocation='{}'\n",
            registry.address, empty.address, mirror.address
        ),
    );
    image.assert_pulled(&home.client(), &"example.test/a/app:1".parse().unwrap());
    assert!(mirror.count(crate::faults::Seen::is_manifest) >= 1);
    // Dead and empty for the manifest; then the mirror lacks the blobs.
    assert!(
        home.watcher.count("note Mirror") >= 3,
        "{:?}",
        home.watcher.told
    );
    // Where nobody has it, it is the registry's own word that counts.
    let absent = home
        .client()
        .open(&"example.test/a/none:1".parse().unwrap())
        .unwrap();
    let error = absent.manifest(&Platform::host()).unwrap_err();
    assert!(matches!(error, RegistryError::Absent { .. }), "{error}");
}

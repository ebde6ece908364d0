//! What is brought to a registry.

use std::sync::atomic::{AtomicUsize, Ordering};

use image::registry::{Content, RegistryError};
use image::{Descriptor, Digest, media_type};

use crate::faults::{Action, Faults};
use crate::fixture::{Home, Image, Registry, name, noise};

#[test]
fn what_is_there_is_not_sent_again() {
    let registry = Registry::start();
    let home = Home::new();
    let faults = Faults::start(&registry.address, |_| Action::Pass);
    let to = name(&faults.address, "app:1");
    let image = Image::new(vec![noise(1, 100_000)]);
    image.publish(&home.client(), &to);
    let sent = faults.count(|seen| seen.method == "PUT");
    image.publish(&home.client(), &to);
    // Only the manifest.
    assert_eq!(faults.count(|seen| seen.method == "PUT"), sent + 1);
    assert!(home.watcher.count("ends") >= 4);
}

#[test]
fn a_blob_of_a_neighbour_is_mounted() {
    let registry = Registry::start();
    let home = Home::new();
    let client = home.client();
    let image = Image::new(vec![noise(1, 100_000)]);
    image.publish(&client, &registry.name("first:1"));
    let faults = Faults::start(&registry.address, |_| Action::Pass);
    let repository = client
        .open_for_push(&name(&faults.address, "second:1"))
        .unwrap();
    let layer = Descriptor::of("", &image.layers[0]);
    let sent = repository
        .push_blob(&layer, Content::Bytes(&image.layers[0]), Some("first"))
        .unwrap();
    assert!(!sent);
    assert_eq!(faults.count(|seen| seen.method == "PUT"), 0);
    // Where there is nothing to mount, it is sent.
    let other = noise(2, 1000);
    let sent = repository
        .push_blob(
            &Descriptor::of("", &other),
            Content::Bytes(&other),
            Some("first"),
        )
        .unwrap();
    assert!(sent);
}

#[test]
fn a_file_is_sent_as_it_is_and_again_after_a_break() {
    let registry = Registry::start();
    let home = Home::new();
    let bytes = noise(3, 3_000_000);
    let path = home.write("blob", &bytes);
    let file = std::fs::File::open(path).unwrap();
    let puts = AtomicUsize::new(0);
    let faults = Faults::start(&registry.address, move |seen| {
        match (seen.method == "PUT").then(|| puts.fetch_add(1, Ordering::Relaxed)) {
            Some(0) => Action::Answer("HTTP/1.1 503 X".to_owned(), Vec::new()),
            Some(1) => Action::Close,
            _ => Action::Pass,
        }
    });
    let repository = home
        .client()
        .open_for_push(&name(&faults.address, "app:1"))
        .unwrap();
    let push = |repository: &image::registry::Repository| {
        repository.push_blob(&Descriptor::of("", &bytes), Content::File(&file), None)
    };
    assert!(push(&repository).unwrap());
    // Each try is an upload of its own: the broken one is lost.
    assert_eq!(faults.count(|seen| seen.method == "POST"), 3);
    let broken = Faults::start(&registry.address, |seen| match seen.method.as_str() {
        "PUT" => Action::Answer("HTTP/1.1 500 X".to_owned(), Vec::new()),
        "HEAD" => Action::Answer("HTTP/1.1 404 X".to_owned(), Vec::new()),
        _ => Action::Pass,
    });
    let repository_of_broken = home
        .client()
        .open_for_push(&name(&broken.address, "app:1"))
        .unwrap();
    let error = push(&repository_of_broken).unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(broken.count(|seen| seen.method == "PUT"), 4);
    let stored = home
        .client()
        .open(&registry.name("app:1"))
        .map(std::sync::Arc::new)
        .unwrap();
    let mut got = Vec::new();
    std::io::copy(&mut stored.blob(&Descriptor::of("", &bytes)), &mut got).unwrap();
    assert!(got == bytes);
}

#[test]
fn a_wrong_digest_is_refused_by_the_registry_and_by_us() {
    let registry = Registry::start();
    let home = Home::new();
    let repository = home
        .client()
        .open_for_push(&registry.name("app:1"))
        .unwrap();
    let mut wrong = Descriptor::of("", b"one");
    wrong.digest = Digest::of(b"two");
    let error = repository
        .push_blob(&wrong, Content::Bytes(b"one"), None)
        .unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    let lying = Faults::start(&registry.address, |_| {
        let other = Digest::of(b"other");
        Action::Answer(
            format!("HTTP/1.1 201 Created\r\nDocker-Content-Digest: {other}"),
            Vec::new(),
        )
    });
    let repository = home
        .client()
        .open_for_push(&name(&lying.address, "app:1"))
        .unwrap();
    let error = repository
        .push_manifest(b"{}", media_type::OCI_MANIFEST)
        .unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let registry = Registry::with_password();
    let home = Home::new();
    let elsewhere = Faults::start(&registry.address, |_| {
        Action::Answer("HTTP/1.1 201 X".to_owned(), Vec::new())
    });
    let to = elsewhere.address.clone();
    let faults = Faults::start(&registry.address, move |seen| match seen.method.as_str() {
        "POST" if seen.header("authorization").is_some() => Action::Answer(
            format!("HTTP/1.1 202 X\r\nLocation: http://{to}/up?s=1"),
            Vec::new(),
        ),
        _ => Action::Pass,
    });
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#,
        faults.address
    );
    home.write(".docker/config.json", auth);
    let repository = home
        .client()
        .open_for_push(&name(&faults.address, "app:1"))
        .unwrap();
    assert!(
        repository
            .push_blob(&Descriptor::of("", b"x"), Content::Bytes(b"x"), None)
            .unwrap()
    );
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].target.starts_with("/up?s=1&digest=sha256"),
        "{}",
        seen[0].target
    );
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(seen[0].body, b"x");
}

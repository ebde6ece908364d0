//! Content that is not what it should be, and answers that are none.

use image::registry::{Fault, RegistryError};
use image::{Descriptor, Digest, DocumentError, Index, Platform, media_type};

use crate::faults::{Action, Faults, Seen};
use crate::fixture::{Home, Image, Registry, name, noise};
use crate::pull::{failure, published};

/// Lets everything pass but what `matches`, which gets `action`.
fn only(
    registry: &Registry,
    matches: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    action: impl Fn(&Seen) -> Action + Send + Sync + 'static,
) -> Faults {
    Faults::start(&registry.address, move |seen| match matches(seen) {
        true => action(seen),
        false => Action::Pass,
    })
}

fn manifest(text: impl Into<Vec<u8>>, kind: &str) -> Action {
    Action::Answer(
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}"),
        text.into(),
    )
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let (registry, home, image) = published();
    let layer = Digest::of(&image.layers[0]).hex();
    let config = Digest::of(&image.config).hex();
    for (what, at) in [(layer, 250_000), (config, 5)] {
        let faults = only(
            &registry,
            move |seen| seen.is_blob() && seen.target.contains(&what),
            move |_| Action::Flip(at),
        );
        let error = failure(&home, &faults.address);
        assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    }
    // A tag's content is held against the digest that the registry sends along.
    let faults = only(&registry, Seen::is_manifest, |_| Action::Flip(30));
    let error = failure(&home, &faults.address);
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    // A digest needs no such word.
    let bytes = image.manifest.clone();
    let faults = only(&registry, Seen::is_manifest, move |_| {
        let mut bytes = bytes.clone();
        bytes.push(b' ');
        manifest(bytes, media_type::OCI_MANIFEST)
    });
    let pinned = name(&faults.address, &format!("app@{}", image.digest()));
    let error = home
        .client()
        .open(&pinned)
        .unwrap()
        .manifest(&Platform::host())
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Digest { wanted, .. } if wanted == image.digest()),
        "{error}"
    );
}

#[test]
fn another_blob_is_found_by_size_or_digest() {
    let (registry, home, image) = published();
    for (length, found) in [(5_001, "size"), (4_999, "size"), (5_000, "digest")] {
        let small = Digest::of(&image.layers[1]).hex();
        let faults = only(
            &registry,
            move |seen| seen.is_blob() && seen.target.contains(&small),
            move |_| Action::Answer("HTTP/1.1 200 OK".to_owned(), noise(9, length)),
        );
        let error = failure(&home, &faults.address);
        match found {
            "size" => assert!(
                matches!(error, RegistryError::Size { wanted: 5_000, .. }),
                "{error}"
            ),
            _ => assert!(matches!(error, RegistryError::Digest { .. }), "{error}"),
        }
    }
}

#[test]
fn bodies_without_end_are_cut_off() {
    let (registry, home, image) = published();
    let layer = Digest::of(&image.layers[1]).hex();
    let endless = |kind: &str| Action::Endless(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}"));
    let faults = only(&registry, Seen::is_manifest, move |_| {
        endless(media_type::OCI_MANIFEST)
    });
    let error = failure(&home, &faults.address);
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Endless { .. })),
        "{error}"
    );
    let faults = only(
        &registry,
        move |seen| seen.is_blob() && seen.target.contains(&layer),
        move |_| endless("x"),
    );
    let error = failure(&home, &faults.address);
    assert!(
        matches!(error, RegistryError::Size { found: 5_001, .. }),
        "{error}"
    );
    let faults = only(&registry, Seen::is_manifest, |_| {
        Action::Endless("HTTP/1.1 403 No\r\nContent-Type: text/plain".to_owned())
    });
    let error = failure(&home, &faults.address);
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
}

#[test]
fn error_texts_are_fit_for_a_terminal() {
    let (registry, home, _) = published();
    let said = |head: &'static str, body: &'static [u8]| {
        let faults = only(&registry, Seen::is_manifest, move |_| {
            Action::Answer(head.to_owned(), body.to_vec())
        });
        let text = failure(&home, &faults.address).to_string();
        assert!(
            !text.contains(char::is_control) && text.len() < 500,
            "{text:?}"
        );
        text
    };
    let escapes = br#"{"errors":[{"code":"DENIED","message":"\u001b]0;pwned\u0007 \u202egnp"}]}"#;
    assert!(said("HTTP/1.1 403 X", escapes).contains("DENIED: \\u{1b}]0;pwned\\u{7} \\u{202e}gnp"));
    assert!(said("HTTP/1.1 404 X", b"raw \x1b[2J bytes \xff").contains("raw \\u{1b}[2J bytes"));
    assert!(said("HTTP/1.1 400 X", b"<!DOCTYPE html><html>sorry</html>").contains("an HTML page"));
    assert!(said("HTTP/1.1 418 X", b"").contains("418"));
    said(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\x1b[31m",
        b"<html>",
    );
    assert!(said("HTTP/1.1 200 OK\r\nContent-Type: text/html", b"<html>").contains("refused"));
    let text = said("HTTP/1.1 302 X\r\nLocation: file:///etc/passwd", b"");
    assert!(text.contains("Refuses to follow a redirect"), "{text}");
    assert!(said("no http at all", b"").contains("HTTP"));
}

#[test]
fn redirects_end() {
    let (registry, home, _) = published();
    let faults = only(&registry, Seen::is_manifest, |seen| {
        Action::Answer(
            format!("HTTP/1.1 302 X\r\nLocation: {}x", seen.target),
            Vec::new(),
        )
    });
    let error = failure(&home, &faults.address);
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Redirects)),
        "{error}"
    );
    assert_eq!(faults.count(Seen::is_manifest), 6);
}

#[test]
fn documents_that_are_no_image_are_refused_with_a_reason() {
    let (registry, home, image) = published();
    let refused = |text: Vec<u8>, kind: &'static str| {
        let faults = only(&registry, Seen::is_manifest, move |_| {
            manifest(text.clone(), kind)
        });
        failure(&home, &faults.address)
    };
    let chain = |error: &RegistryError| {
        let source = std::error::Error::source(error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    };
    let error = refused(
        br#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#.to_vec(),
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    );
    assert!(chain(&error).contains("schema 1"), "{}", chain(&error));
    let error = refused(b"<html>".to_vec(), "text/html");
    assert!(chain(&error).contains("text/html"), "{}", chain(&error));
    let error = refused(b"{".to_vec(), media_type::OCI_MANIFEST);
    assert!(matches!(error, RegistryError::Document { .. }), "{error}");
    // One document, two meanings.
    let error = refused(image.manifest.clone(), media_type::OCI_INDEX);
    assert!(matches!(error, RegistryError::Ambiguous { .. }), "{error}");
    let both = format!(
        r#"{{"schemaVersion":2,"manifests":[],"config":{0},"layers":[]}}"#,
        serde_json::to_string(&Descriptor::of("x", b"")).unwrap()
    );
    for kind in [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        "application/json",
    ] {
        let error = refused(both.clone().into_bytes(), kind);
        assert!(
            matches!(error, RegistryError::Ambiguous { .. }),
            "{kind}: {error}"
        );
    }
    // A layer that is to be had elsewhere only.
    let foreign = String::from_utf8(image.manifest.clone()).unwrap().replace(
        media_type::OCI_LAYER,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    );
    let error = refused(foreign.into_bytes(), media_type::OCI_MANIFEST);
    assert!(chain(&error).contains("foreign layer"), "{}", chain(&error));
    assert!(matches!(
        error,
        RegistryError::Document {
            source: DocumentError::Foreign(_),
            ..
        }
    ));
    // A manifest that calls for itself a giant configuration.
    let giant = String::from_utf8(image.manifest.clone()).unwrap().replace(
        &format!("\"size\":{}", image.config.len()),
        "\"size\":99999999999",
    );
    let error = refused(giant.into_bytes(), media_type::OCI_MANIFEST);
    assert!(
        matches!(
            error,
            RegistryError::Document {
                source: DocumentError::TooLong { .. },
                ..
            }
        ),
        "{error}"
    );
}

/// Pushes `images` and an index of them, under `tag`.
fn push_index(
    home: &Home,
    registry: &Registry,
    tag: &str,
    entries: &[(&str, &[u8], &str)],
) -> Digest {
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: entries
            .iter()
            .map(|(architecture, bytes, kind)| {
                let mut entry = Descriptor::of(kind, bytes);
                entry.platform = Some(Platform {
                    os: "linux".to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: None,
                });
                entry
            })
            .collect(),
        annotations: None,
    };
    let bytes = serde_json::to_vec(&index).unwrap();
    let to = registry.name(&format!("app:{tag}"));
    home.client()
        .open_for_push(&to)
        .unwrap()
        .push_manifest(&bytes, media_type::OCI_INDEX)
        .unwrap();
    Digest::of(&bytes)
}

#[test]
fn the_platform_chooses_from_an_index() {
    let registry = Registry::start();
    let home = Home::new();
    let client = home.client();
    let amd = Image::new(vec![noise(1, 100)]);
    let arm = Image::for_architecture("arm64", vec![noise(2, 100)]);
    amd.publish(&client, &registry.name("app:amd"));
    arm.publish(&client, &registry.name("app:arm"));
    let kind = media_type::OCI_MANIFEST;
    let index = push_index(
        &home,
        &registry,
        "both",
        &[
            ("arm64", &arm.manifest, kind),
            ("amd64", &amd.manifest, kind),
        ],
    );
    let both = registry.name("app:both");
    let repository = std::sync::Arc::new(client.open(&both).unwrap());
    let platform = |architecture: &str| Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
    };
    for (architecture, image) in [("amd64", &amd), ("arm64", &arm)] {
        let fetched = repository.manifest(&platform(architecture)).unwrap();
        assert_eq!(fetched.digest, image.digest());
        assert_eq!(fetched.top, index);
        assert_eq!(fetched.indexes, [index]);
        repository
            .config(&fetched.manifest, &platform(architecture))
            .unwrap();
    }
    assert_eq!(repository.head().unwrap(), Some(index));
    let error = repository.manifest(&platform("riscv64")).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.contains("linux/riscv64") && source.contains("linux/arm64"),
        "{source}"
    );
    // An image without an index says itself what it is for.
    let alone = std::sync::Arc::new(client.open(&registry.name("app:arm")).unwrap());
    let fetched = alone.manifest(&Platform::host()).unwrap();
    let error = alone
        .config(&fetched.manifest, &Platform::host())
        .unwrap_err();
    assert!(matches!(error, RegistryError::Platform { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("linux/arm64, not for linux/amd64"),
        "{error}"
    );
}

#[test]
fn indexes_in_indexes_end() {
    let registry = Registry::start();
    let home = Home::new();
    let image = Image::new(vec![noise(1, 100)]);
    image.publish(&home.client(), &registry.name("app:0"));
    let mut bytes = image.manifest.clone();
    let mut kind = media_type::OCI_MANIFEST;
    for depth in 1..=4 {
        push_index(
            &home,
            &registry,
            &depth.to_string(),
            &[("amd64", &bytes, kind)],
        );
        kind = media_type::OCI_INDEX;
        let target = registry.name(&format!("app:{depth}"));
        bytes = ureq::get(format!(
            "http://{}/v2/app/manifests/{depth}",
            registry.address
        ))
        .header("accept", kind)
        .call()
        .unwrap()
        .body_mut()
        .read_to_vec()
        .unwrap();
        let got = home
            .client()
            .open(&target)
            .unwrap()
            .manifest(&Platform::host());
        match depth {
            1..=3 => {
                let fetched = got.unwrap();
                assert_eq!(fetched.digest, image.digest());
                assert_eq!(fetched.indexes.len(), depth);
            }
            _ => assert!(
                matches!(got, Err(RegistryError::Document { .. })),
                "{depth}"
            ),
        }
    }
}

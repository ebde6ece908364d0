//! Manifests, indexes and platforms.

use super::*;

fn entry(platform: Option<(&str, &str)>, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type::OCI_MANIFEST.into(),
        digest: Digest::of(b""),
        size,
        platform: platform.map(|(os, architecture)| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: None,
        }),
        urls: None,
        annotations: None,
    }
}

fn index(manifests: Vec<Descriptor>) -> Index {
    Index {
        schema_version: 2,
        media_type: None,
        manifests,
        annotations: None,
    }
}

#[test]
fn the_platform_decides() {
    let both = index(vec![
        entry(Some(("linux", "arm64")), 1),
        entry(None, 2),
        entry(Some(("linux", "amd64")), 3),
    ]);
    assert_eq!(both.select(&Platform::host()).unwrap().size, 3);
    assert_eq!(
        index(vec![entry(None, 2)])
            .select(&Platform::host())
            .unwrap()
            .size,
        2
    );
    let other = index(vec![entry(Some(("linux", "arm64")), 1)]);
    let error = other.select(&Platform::host());
    assert_eq!(
        error.unwrap_err().to_string(),
        "There is no image for linux/amd64; the index has linux/arm64"
    );
}

#[test]
fn foreign_and_odd_layers_are_refused() {
    let layer = |media_type: &str| {
        let mut layer = entry(None, 1);
        layer.media_type = media_type.into();
        layer.check_layer()
    };
    assert!(layer(media_type::DOCKER_LAYER_GZIP).is_ok());
    assert!(matches!(
        layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        Err(DocumentError::Foreign(_))
    ));
    assert!(matches!(
        layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        Err(DocumentError::LayerType { .. })
    ));
}

#[test]
fn documents_say_what_they_are() {
    let bytes = serde_json::to_vec(&index(vec![entry(None, 1)])).unwrap();
    assert!(matches!(
        ManifestOrIndex::parse(&bytes, None),
        Ok(ManifestOrIndex::Index(_))
    ));
    let schema1 = br#"{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}"#;
    assert!(matches!(
        ManifestOrIndex::parse(schema1, None),
        Err(DocumentError::MediaType(_))
    ));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        Manifest::parse(deep.as_bytes()),
        Err(DocumentError::Json { .. })
    ));
    let long = vec![b' '; MAX_DOCUMENT + 1];
    assert!(matches!(
        Manifest::parse(&long),
        Err(DocumentError::TooLong { .. })
    ));
}

//! Archives and layouts in the shapes their tools write, and in shapes nobody should.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::testing::archive::{Packing, Tar, config, docker_archive, oci_layout};

fn open(bytes: &[u8], tag: Option<&str>) -> Result<Local, OpenError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    super::docker_archive(Files::archive(file)?, tag)
}

fn layer() -> Vec<u8> {
    Tar::new().file("a", b"1").end()
}

#[test]
fn docker_archives_by_tag() {
    let bytes = docker_archive(&[layer()], "docker.io/library/busybox:latest");
    for tag in [
        None,
        Some("busybox"),
        Some("busybox:latest"),
        Some("docker.io/library/busybox"),
    ] {
        let local = open(&bytes, tag).unwrap();
        assert_eq!(local.layers.len(), 1);
        assert_eq!(local.names, ["docker.io/library/busybox:latest"]);
    }
    let error = open(&bytes, Some("busybox:1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "There is no image \"busybox:1\" in it; there is docker.io/library/busybox:latest"
    );
}

#[test]
fn docker_archives_with_linked_layers() {
    // docker before 25: one directory a layer, equal layers as links.
    let layers = [layer(), layer()];
    let config = config(&layers, "{}");
    let manifest =
        r#"[{"Config":"c.json","RepoTags":null,"Layers":["x/layer.tar","y/layer.tar"]}]"#;
    let archive = Tar::new()
        .directory("x")
        .file("x/layer.tar", &layers[0])
        .symlink("y/layer.tar", "../x/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", manifest.as_bytes());
    let mut local = open(&archive.end(), None).unwrap();
    for position in 0..2 {
        let mut bytes = Vec::new();
        Layers::open(&mut local, position)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, layers[0]);
    }
}

#[test]
fn several_images_need_a_tag() {
    let config = config(&[], "{}");
    let manifest = r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":[]},
        {"Config":"c.json","RepoTags":["b:2"],"Layers":null}]"#;
    let archive = Tar::new()
        .file("c.json", &config)
        .file("manifest.json", manifest.as_bytes())
        .end();
    assert!(open(&archive, Some("b:2")).is_ok());
    let error = open(&archive, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "It holds 2 images: say which by a tag; there is a:1, b:2"
    );
}

#[test]
fn documents_that_lie() {
    let config = config(&[layer()], "{}");
    let archive = |name: &str, config: &[u8], layers: &str| {
        let manifest = format!(r#"[{{"Config":"{name}","Layers":{layers}}}]"#);
        Tar::new()
            .file(name, config)
            .file("l", b"")
            .file("manifest.json", manifest.as_bytes())
            .end()
    };
    let name = format!("{}.json", Digest::of(b"something else").hex());
    let result = open(&archive(&name, &config, r#"["l"]"#), None);
    assert!(matches!(result, Err(OpenError::Digest { .. })));
    let result = open(&archive("c.json", &config, r#"["l","l"]"#), None);
    assert!(matches!(
        result,
        Err(OpenError::Document(DocumentError::LayerCount {
            layers: 2,
            diff_ids: 1
        }))
    ));
    let result = open(&archive("c.json", &config, r#"["../../etc/passwd"]"#), None);
    assert!(matches!(
        result,
        Err(OpenError::Files(FilesError::Missing(_)))
    ));
    let result = open(&archive("c.json", b"[]", r#"["l"]"#), None);
    assert!(matches!(
        result,
        Err(OpenError::Document(DocumentError::Json { .. }))
    ));
    let result = open(&Tar::new().file("other", b"").end(), None);
    assert!(matches!(
        result,
        Err(OpenError::Files(FilesError::Missing(_)))
    ));
    let deep = "[".repeat(1 << 20);
    let result = open(
        &Tar::new().file("manifest.json", deep.as_bytes()).end(),
        None,
    );
    assert!(matches!(
        result,
        Err(OpenError::Document(DocumentError::Json { .. }))
    ));
    let long = vec![b' '; MAX_DOCUMENT + 1];
    let result = open(&Tar::new().file("manifest.json", &long).end(), None);
    assert!(matches!(
        result,
        Err(OpenError::Files(FilesError::TooLong { .. }))
    ));
}

#[test]
fn layouts_by_tag() {
    let directory = tempfile::tempdir().unwrap();
    let path = oci_layout(directory.path(), &[layer()], Packing::Gzip, "v1");
    let files = || Files::Directory(path.clone());
    assert_eq!(oci_layout_of(files(), None).unwrap().layers.len(), 1);
    assert!(oci_layout_of(files(), Some("v1")).is_ok());
    assert!(matches!(
        oci_layout_of(files(), Some("v2")),
        Err(OpenError::Tag { .. })
    ));
}

fn oci_layout_of(files: Files, tag: Option<&str>) -> Result<Local, OpenError> {
    super::oci_layout(files, tag)
}

#[test]
fn layouts_with_damaged_documents() {
    let directory = tempfile::tempdir().unwrap();
    let path = oci_layout(directory.path(), &[layer()], Packing::Zstd, "v1");
    let mut documents = 0;
    for entry in std::fs::read_dir(path.join("blobs/sha256")).unwrap() {
        let blob = entry.unwrap().path();
        let whole = std::fs::read(&blob).unwrap();
        if whole.first() != Some(&b'{') {
            continue;
        }
        documents += 1;
        let mut other = whole.clone();
        other[1] ^= 1;
        std::fs::write(&blob, &other).unwrap();
        let result = oci_layout_of(Files::Directory(path.clone()), None);
        assert!(
            matches!(result, Err(OpenError::Digest { .. })),
            "{result:?}"
        );
        std::fs::write(&blob, &whole[1..]).unwrap();
        let result = oci_layout_of(Files::Directory(path.clone()), None);
        assert!(matches!(result, Err(OpenError::Size { .. })), "{result:?}");
        std::fs::write(&blob, whole).unwrap();
    }
    assert_eq!(documents, 2);
}

#[test]
fn endless_indexes_end() {
    // An index cannot name itself by digest; a chain of them can be long.
    let directory = tempfile::tempdir().unwrap();
    let blobs = directory.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let mut index = String::from(r#"{"schemaVersion":2,"manifests":[]}"#);
    for _ in 0..6 {
        let digest = Digest::of(index.as_bytes());
        std::fs::write(blobs.join(digest.hex()), &index).unwrap();
        index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":{},
            "mediaType":"application/vnd.oci.image.index.v1+json"}}]}}"#,
            index.len()
        );
    }
    std::fs::write(directory.path().join("index.json"), index).unwrap();
    let result = oci_layout_of(Files::Directory(directory.path().to_owned()), None);
    assert!(matches!(result, Err(OpenError::Nesting)), "{result:?}");
}

proptest! {
    #[test]
    fn any_manifest_is_survived(manifest in r#"[\[\]{}":,A-Za-z0-9./]{0,200}"#) {
        let _ = open(&Tar::new().file("manifest.json", manifest.as_bytes()).end(), None);
    }
}

//! Loading, saving, naming, removing, checking.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Fixture, contents, layer};
use crate::reference::{Reference, Source};
use crate::store::{Format, ProblemKind, RemoveError, SaveError, Store, StoreError};
use crate::testing::archive::{Packing, docker_archive, oci_layout, pack};
use crate::testing::erofs::list;
use crate::{Digest, Image};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn layout(fixture: &Fixture, packing: Packing, tag: &str) -> Source {
    let path = fixture.work.path().join(format!("layout-{packing:?}"));
    let layers = [layer("lower"), layer(&format!("{packing:?}"))];
    Source::Oci {
        path: oci_layout(&path, &layers, packing, tag),
        tag: None,
    }
}

fn save(store: &Store, image: &Image, names: &[&str], format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    let names = names.iter().map(|name| reference(name)).collect();
    store
        .save(&[(image.clone(), names)], format, &mut bytes)
        .unwrap();
    bytes
}

#[test]
fn loaded_and_saved_with_the_same_digests() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let fixture = Fixture::new();
        let source = layout(&fixture, packing, "example.org/app:1");
        let loaded = fixture.store.load(&source).unwrap();
        assert_eq!(loaded.len(), 1);
        let image = &loaded[0].image;
        assert_eq!(loaded[0].names, [reference("example.org/app:1")]);
        assert_eq!(
            fixture
                .store
                .named(&reference("example.org/app:1"))
                .unwrap()
                .as_ref(),
            Some(image)
        );
        let saved = save(&fixture.store, image, &["example.org/app:1"], Format::Oci);
        let other = Fixture::new();
        let path = other.work.path().join("saved.tar");
        std::fs::write(&path, &saved).unwrap();
        let again = other
            .store
            .load(&Source::OciArchive { path, tag: None })
            .unwrap();
        assert_eq!(again[0].image.id, image.id);
        assert_eq!(again[0].image.manifest, image.manifest);
        assert_eq!(again[0].names, loaded[0].names);
        let blobs = |fixture: &Fixture| -> Vec<String> {
            let all = contents(&fixture.root());
            all.into_iter()
                .filter(|name| name.starts_with("blobs/"))
                .collect()
        };
        assert_eq!(blobs(&fixture), blobs(&other));
        assert_eq!(
            save(
                &other.store,
                &again[0].image,
                &["example.org/app:1"],
                Format::Oci
            ),
            saved
        );
    }
}

#[test]
fn docker_archives_in_and_out() {
    let fixture = Fixture::new();
    let source = fixture.archive(&docker_archive(&[layer("x"), layer("y")], "app:1"));
    let loaded = fixture.store.load(&source).unwrap();
    let image = &loaded[0].image;
    assert_eq!(loaded[0].names, [reference("app:1")]);
    let saved = save(&fixture.store, image, &["app:1"], Format::Docker);
    let other = Fixture::new();
    let again = other.store.load(&other.archive(&saved)).unwrap();
    assert_eq!(
        (again[0].image.id, again[0].names.clone()),
        (image.id, loaded[0].names.clone())
    );
    let bytes = std::fs::read(&again[0].image.path).unwrap();
    assert_eq!(list(&bytes)[&b"etc/name"[..]].data, b"y");
    // Packed archives load as well.
    let packed = pack(&saved, Packing::Gzip);
    let third = Fixture::new();
    assert_eq!(
        third.store.load(&third.archive(&packed)).unwrap()[0]
            .image
            .id,
        image.id
    );
    assert_eq!(
        third.store.get(&third.archive(&packed)).unwrap().id,
        image.id
    );
}

fn skopeo(arguments: &[&str]) {
    let mut skopeo = Command::new("skopeo");
    let status = skopeo.args(arguments).stdout(Stdio::null()).status();
    assert!(status.expect("skopeo is needed").success(), "{arguments:?}");
}

#[test]
fn skopeo_reads_what_is_saved_and_we_read_what_it_writes() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.work.path().join(name).display().to_string();
    let loaded = fixture
        .store
        .load(&layout(&fixture, Packing::Gzip, "app:1"))
        .unwrap();
    let image = &loaded[0].image;
    for (format, transport) in [
        (Format::Docker, "docker-archive"),
        (Format::Oci, "oci-archive"),
    ] {
        let file = at(&format!("{transport}.tar"));
        std::fs::write(&file, save(&fixture.store, image, &["app:1"], format)).unwrap();
        let name = if format == Format::Docker {
            "app:1"
        } else {
            "docker.io/library/app:1"
        };
        let from = format!("{transport}:{file}:{name}");
        // From one format to the other skopeo writes the configuration anew: the id changes.
        let copy = at(&format!("{transport}-copy"));
        let to = match format {
            Format::Docker => format!("docker-archive:{copy}:app:1"),
            Format::Oci => format!("oci:{copy}:app:1"),
        };
        skopeo(&["copy", "-q", &from, &to]);
        let source = match format {
            Format::Docker => Source::DockerArchive {
                path: copy.into(),
                name: None,
            },
            Format::Oci => Source::Oci {
                path: copy.into(),
                tag: None,
            },
        };
        let other = Fixture::new();
        let again = other.store.load(&source).unwrap().remove(0).image;
        assert_eq!((again.id, again.bytes), (image.id, image.bytes));
    }
}

#[test]
fn lies_are_not_kept() {
    // A configuration that is known, with other layers than it says.
    let fixture = Fixture::new();
    let layers = [layer("good")];
    let good = docker_archive(&layers, "app:1");
    fixture.store.get(&fixture.archive(&good)).unwrap();
    let before = contents(&fixture.root());
    let mut lying = good.clone();
    let at = lying
        .windows(4)
        .position(|window| window == b"good")
        .unwrap();
    lying[at..at + 4].copy_from_slice(b"evil");
    assert!(fixture.store.load(&fixture.archive(&lying)).is_err());
    assert_eq!(contents(&fixture.root()), before);
}

#[test]
fn what_was_not_kept_is_not_saved() {
    let fixture = Fixture::new();
    let image = fixture
        .store
        .get(&fixture.archive(&docker_archive(&[layer("x")], "x:1")))
        .unwrap();
    let result = fixture
        .store
        .save(&[(image, vec![])], Format::Oci, &mut Vec::new());
    assert!(matches!(result, Err(SaveError::NotKept(_))));
}

#[test]
fn imported_trees_run_and_save() {
    let fixture = Fixture::new();
    let config = |diff_id: &Digest| crate::directory::config(diff_id).into_bytes();
    let packed = pack(&layer("imported"), Packing::Zstd);
    let image = fixture
        .store
        .import("tree.tar.zst", &mut &packed[..], None, config)
        .unwrap();
    let bytes = std::fs::read(&image.path).unwrap();
    assert_eq!(list(&bytes)[&b"etc/name"[..]].data, b"imported");
    assert!(!save(&fixture.store, &image, &[], Format::Docker).is_empty());
    assert!(
        fixture
            .store
            .import("rubbish", &mut &b"rubbish"[..], None, config)
            .is_err()
    );
}

#[test]
fn directories_are_images_until_they_change() {
    let fixture = Fixture::new();
    let path = fixture.work.path().join("tree");
    std::fs::create_dir_all(path.join("etc")).unwrap();
    std::fs::write(path.join("etc/name"), b"one").unwrap();
    let source = Source::Directory(path.clone());
    let first = fixture.store.get(&source).unwrap();
    assert_eq!(first.execution.cmd, ["/bin/sh"]);
    assert_eq!(fixture.store.get(&source).unwrap(), first);
    std::fs::write(path.join("etc/name"), b"two").unwrap();
    let second = fixture.store.get(&source).unwrap();
    assert_ne!(first.id, second.id);
    let bytes = std::fs::read(&second.path).unwrap();
    assert_eq!(list(&bytes)[&b"etc/name"[..]].data, b"two");
}

fn remaining(root: &Path) -> Vec<String> {
    contents(root)
        .into_iter()
        .map(|name| name.split('/').next().unwrap().to_owned())
        .collect()
}

#[test]
fn removing_takes_everything_nobody_needs() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let loaded = store
        .load(&layout(&fixture, Packing::Gzip, "app:1"))
        .unwrap();
    let image = &loaded[0].image;
    store.tag(&reference("app:2"), &image.id, None).unwrap();
    let hex = image.id.hex();
    for text in ["app:1", "app:2", &hex, &hex[..12], &format!("sha256:{hex}")] {
        assert_eq!(&store.resolve(text).unwrap(), image, "{text}");
    }
    assert!(matches!(
        store.resolve("app:3"),
        Err(RemoveError::Unknown(_))
    ));
    assert!(matches!(
        store.remove(&hex, false),
        Err(RemoveError::Named { .. })
    ));
    let removed = store.remove("app:2", false).unwrap();
    assert_eq!((removed.names.len(), removed.images.len()), (1, 0));
    // In use as long as any process has the root open.
    let root = store.open_root(image).unwrap();
    assert!(store.list().unwrap()[0].is_used);
    assert!(matches!(
        store.remove("app:1", true),
        Err(RemoveError::InUse(_))
    ));
    assert_eq!(store.prune(true).unwrap().images, []);
    drop(root);
    let adding = store.adding().unwrap();
    let removed = store.remove("app:1", false).unwrap();
    assert_eq!(
        (removed.images.len(), removed.bytes),
        (1, 0),
        "somebody adds: nothing is collected"
    );
    drop(adding);
    assert!(store.prune(false).unwrap().bytes > 0);
    assert_eq!(remaining(&fixture.root()), Vec::<String>::new());
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn pruning_spares_names_and_shared_parts() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let named = store
        .load(&layout(&fixture, Packing::Zstd, "app:1"))
        .unwrap()
        .remove(0)
        .image;
    let unnamed = store
        .get(&fixture.archive(&docker_archive(&[layer("x")], "x:1")))
        .unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
    let usage = store.usage().unwrap();
    assert_eq!((usage.images, usage.used), (2, 0));
    assert_eq!(usage.reclaimable, usage.roots + usage.blobs);
    let removed = store.prune(false).unwrap();
    assert_eq!(removed.images, [unnamed.id]);
    assert!(removed.bytes > 0);
    assert_eq!(store.check(false).unwrap(), []);
    assert_eq!(store.find(&named.id).unwrap(), Some(named));
    assert_eq!(store.prune(true).unwrap().images.len(), 1);
    assert_eq!(remaining(&fixture.root()), Vec::<String>::new());
}

#[test]
fn damage_is_found_and_removed() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let source = layout(&fixture, Packing::Gzip, "app:1");
    let image = store.load(&source).unwrap().remove(0).image;
    let healthy = contents(&fixture.root());
    assert_eq!(store.check(false).unwrap(), []);
    let files: Vec<String> = healthy
        .iter()
        .map(|name| name.split(' ').next().unwrap().to_owned())
        .collect();
    let mut kinds = 0;
    for file in &files {
        let path = fixture.root().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x80;
        std::fs::write(&path, &bytes).unwrap();
        let problems = store.check(false).unwrap();
        assert!(!problems.is_empty(), "{file}");
        assert!(problems.iter().all(|problem| !problem.is_repaired));
        kinds += usize::from(
            problems
                .iter()
                .any(|problem| matches!(problem.kind, ProblemKind::Root)),
        );
        let repaired = store.check(true).unwrap();
        assert!(
            repaired.iter().all(|problem| problem.is_repaired),
            "{file}: {repaired:?}"
        );
        assert_eq!(store.check(false).unwrap(), [], "{file}");
        // Whatever is left works, and loading again brings everything back.
        for listed in store.list().unwrap() {
            store.open_root(&listed.image).unwrap();
        }
        let again = store.load(&source).unwrap().remove(0).image;
        assert_eq!((again.id, again.manifest), (image.id, image.manifest));
        assert_eq!(store.check(false).unwrap(), [], "{file}");
        assert_eq!(contents(&fixture.root()), healthy, "{file}");
    }
    assert_eq!(kinds, 2, "a root and what is written down of it");
}

#[test]
fn names_stand_for_images() {
    let fixture = Fixture::new();
    let source = fixture.archive(&docker_archive(&[layer("x")], "x:1"));
    let image = fixture.store.get(&source).unwrap();
    let name: Reference = "alpine".parse().unwrap();
    assert_eq!(fixture.store.named(&name).unwrap(), None);
    let manifest = Digest::of(b"manifest");
    fixture
        .store
        .tag(&name, &image.id, Some(&manifest))
        .unwrap();
    assert_eq!(fixture.store.named(&name).unwrap(), Some(image.clone()));
    assert_eq!(
        fixture.store.get(&Source::Registry(name.clone())).unwrap(),
        image
    );
    let names = fixture.store.names().unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].name, "docker.io/library/alpine:latest");
    assert_eq!(names[0].manifest, Some(manifest));
    let unknown = fixture.store.tag(&name, &manifest, None);
    assert!(matches!(unknown, Err(StoreError::Unknown(_))));
    assert!(fixture.store.untag(&name).unwrap());
    assert!(!fixture.store.untag(&name).unwrap());
}

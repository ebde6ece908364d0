//! kill -9 and a full disk: the store has the old state or the new one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Fixture, contents, source};
use crate::testing::archive::{Packing, Tar, docker_archive, pack};
use crate::testing::erofs::list;
use crate::{Digest, Store};

const ROOT: &str = "HULL_TEST_CONVERT_ROOT";
const ARCHIVE: &str = "HULL_TEST_CONVERT_ARCHIVE";

/// The other half of the next test: converts, in a process that can be killed.
#[test]
#[ignore = "is run by killed_at_any_moment, which gives it its work"]
fn converts_in_a_process_of_its_own() {
    let root = std::env::var_os(ROOT).expect("run by another test only");
    let archive = std::env::var_os(ARCHIVE).unwrap();
    Store::open(root.as_ref())
        .unwrap()
        .get(&source(archive.as_ref()))
        .unwrap();
}

#[test]
fn killed_at_any_moment() {
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("archive.tar");
    let file = |tar: Tar, number: usize| tar.file(&format!("f{number}"), &vec![7; 100 << number]);
    let layers: Vec<_> = (0..4)
        .map(|_| (0..16).fold(Tar::new(), file).end())
        .collect();
    std::fs::write(&archive, docker_archive(&layers, "x:1")).unwrap();
    let root = work.path().join("store");
    let child = |root: &Path| {
        let name = "store::tests::crash::converts_in_a_process_of_its_own";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", name, "--ignored"])
            .env(ROOT, root)
            .env(ARCHIVE, &archive);
        child
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // How long it takes here and now: kills are spread over that time and a little more.
    let whole = Instant::now();
    assert!(child(&work.path().join("first")).wait().unwrap().success());
    let whole = whole.elapsed();
    let (mut old, mut new) = (0, 0);
    for round in 0..60_u32 {
        let mut child = child(&root);
        std::thread::sleep(whole * (round * 7919 % 60) / 40);
        child.kill().unwrap();
        child.wait().unwrap();
        if !root.exists() {
            old += 1;
            continue;
        }
        let store = Store::open(&root).unwrap();
        let records = std::fs::read_dir(root.join("images")).map_or(0, Iterator::count);
        if records == 0 {
            old += 1;
        } else {
            new += 1;
            // A record is there: so is all of the image.
            let image = store.get(&source(&archive)).unwrap();
            let bytes = std::fs::read(&image.path).unwrap();
            assert_eq!(list(&bytes)[&b"f15"[..]].data.len(), 100 << 15);
            store.config(&image.id).unwrap();
            std::fs::remove_dir_all(&root).unwrap();
        }
    }
    assert!(
        old > 0 && new > 0,
        "every kill came too early or too late: {old} old, {new} new"
    );
    // Whatever the killed ones left, the next one tidies up.
    let store = Store::open(&root).unwrap();
    store.get(&source(&archive)).unwrap();
    let left: Vec<_> = contents(&root)
        .into_iter()
        .filter(|name| name.starts_with("tmp"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// The other half of the next test: loads and removes without end.
#[test]
#[ignore = "is run by killed_while_loading_and_removing, which gives it its work"]
fn loads_and_removes_in_a_process_of_its_own() {
    let root = std::env::var_os(ROOT).expect("run by another test only");
    let archive = std::env::var_os(ARCHIVE).unwrap();
    let store = Store::open(root.as_ref()).unwrap();
    loop {
        store.load(&source(archive.as_ref())).unwrap();
        store.remove("x:1", false).unwrap();
    }
}

#[test]
fn killed_while_loading_and_removing() {
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("archive.tar");
    let file = |tar: Tar, number: usize| tar.file(&format!("f{number}"), &vec![7; 100 << number]);
    let layers = [
        (0..10).fold(Tar::new(), file).end(),
        Tar::new().file("f1", b"x").end(),
    ];
    std::fs::write(&archive, docker_archive(&layers, "x:1")).unwrap();
    let root = work.path().join("store");
    let store = Store::open(&root).unwrap();
    let mut states = std::collections::BTreeSet::new();
    for round in 0..40_u64 {
        let name = "store::tests::crash::loads_and_removes_in_a_process_of_its_own";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", name, "--ignored"])
            .env(ROOT, &root)
            .env(ARCHIVE, &archive);
        let mut child = child
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30 + round * 37 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever it was at, nothing is half there.
        assert_eq!(store.check(false).unwrap(), []);
        let left = contents(&root);
        for listed in store.list().unwrap() {
            store.open_root(&listed.image).unwrap();
            store.config(&listed.image.id).unwrap();
        }
        states.insert(
            left.iter()
                .map(|name| name.split('/').next().unwrap().to_owned())
                .collect::<Vec<_>>(),
        );
    }
    assert!(
        states.len() > 1,
        "every kill hit the same moment: {states:?}"
    );
    store.prune(true).unwrap();
    assert_eq!(contents(&root), Vec::<String>::new());
}

#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("store");
    let store = Store::open(&root).unwrap();
    let living = store.blob_writer(&Digest::of(b"x")).unwrap().unwrap();
    std::fs::write(root.join("tmp/99999.0"), b"left by a dead process").unwrap();
    std::fs::write(root.join("tmp/roots.abc-1.erofs"), b"another").unwrap();
    let archive = work.path().join("archive.tar");
    std::fs::write(
        &archive,
        docker_archive(&[Tar::new().file("f", b"x").end()], "x:1"),
    )
    .unwrap();
    store.get(&source(&archive)).unwrap();
    let left: Vec<_> = contents(&root)
        .into_iter()
        .filter(|name| name.starts_with("tmp"))
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    drop(living);
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a small file system needs root to mount it");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let disk = work.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(&disk)
            .status()
            .unwrap();
        assert!(status.success());
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=1m", "small"]);
    let root = disk.join("store");
    let store = Store::open(&root).unwrap();
    let archive = |name: &str, bytes: usize| {
        let path = work.path().join(name);
        let layer = Tar::new().file("f", &vec![1; bytes]).end();
        std::fs::write(&path, docker_archive(&[layer], "x:1")).unwrap();
        source(&path)
    };
    let small = archive("small", 100_000);
    store.get(&small).unwrap();
    let before = contents(&root);
    // Sizes around the space that is left: the disk fills at every step of the way.
    for bytes in (0..40).map(|step| 700_000 + step * 8192) {
        let source = archive("large", bytes);
        match store.get(&source) {
            Ok(image) => {
                for path in [
                    image.path.clone(),
                    root.join(format!("images/{}.json", image.id.hex())),
                ] {
                    std::fs::remove_file(path).unwrap();
                }
                std::fs::remove_file(root.join("blobs/sha256").join(image.id.hex())).unwrap();
            }
            Err(_) => {
                let after = contents(&root);
                // A finished root without its record may stay: it is what the next attempt needs.
                let extra: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
                assert!(
                    extra.iter().all(|name| !name.starts_with("tmp/")),
                    "{extra:?}"
                );
                assert!(
                    !extra.iter().any(|name| name.starts_with("images/")),
                    "{extra:?}"
                );
                for name in extra {
                    let path = name.split(' ').next().unwrap();
                    std::fs::remove_file(root.join(path)).unwrap();
                }
            }
        }
        store.get(&small).unwrap();
    }
    drop(store);
    mount(&["umount"]);
}

#[test]
fn blobs_are_whole_or_absent() {
    let fixture = Fixture::new();
    let bytes = pack(b"blob", Packing::Gzip);
    let digest = Digest::of(&bytes);
    let writer = fixture.store.blob_writer(&digest).unwrap().unwrap();
    std::os::unix::fs::FileExt::write_all_at(writer.file(), &bytes[4..], 4).unwrap();
    assert!(!fixture.store.has_blob(&digest).unwrap());
    drop(writer);
    assert_eq!(contents(&fixture.root()), Vec::<String>::new());
    assert_eq!(fixture.store.put_blob(&bytes).unwrap(), digest);
    assert!(fixture.store.blob_writer(&digest).unwrap().is_none());
    assert_eq!(fixture.store.read_blob(&digest).unwrap(), Some(bytes));
    assert!(fixture.store.first_time("x") && !fixture.store.first_time("x"));
}

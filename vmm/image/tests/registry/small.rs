//! File systems that are too small, at many sizes: what cannot be pulled or loaded leaves the store as it was.

use std::path::Path;
use std::process::Command;

use image::reference::{Reference, Source};
use image::{Platform, Pull, Store};

use crate::fixture::{Home, run};
use crate::skopeo::skopeo;
use crate::store::published;

const DISK: &str = "HULL_TEST_SMALL_DISK";
const FROM: &str = "HULL_TEST_SMALL_FROM";
const ARCHIVE: &str = "HULL_TEST_SMALL_ARCHIVE";

/// A file system of its own for as long as the test's process lives.
fn mount(disk: &Path, kib: usize) {
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "small"])
        .arg(disk));
}

/// The other half of the next test: root in a user namespace, which may mount.
#[test]
#[ignore = "is run by a_small_file_system_holds_the_old_state_or_the_new, which gives it its work"]
fn fills_file_systems_in_a_namespace_of_its_own() {
    let disk = std::env::var_os(DISK).expect("run by another test only");
    let disk = Path::new(&disk);
    let from: Reference = std::env::var(FROM).unwrap().parse().unwrap();
    let archive = Source::DockerArchive {
        path: std::env::var_os(ARCHIVE).unwrap().into(),
        name: None,
    };
    let home = Home::new();
    let client = home.client();
    let pull = Pull {
        client: &client,
        policy: None,
        platform: Platform::host(),
        progress: home.watcher.clone(),
    };
    let loaded: Reference = "loaded:1".parse().unwrap();
    let (mut old, mut new) = (0, 0);
    // The image needs some 1.3 MB: from nothing to more than enough, so that every step of the way runs out of space once.
    for kib in (16..1600).step_by(28) {
        for name in [&from, &loaded] {
            mount(disk, kib);
            // A directory of its own: what the mount point's owner is does not matter then.
            let root = disk.join("store");
            let add = |store: &Store| match name == &from {
                true => store
                    .pull(name, &pull)
                    .map(drop)
                    .map_err(|error| error.to_string()),
                false => store
                    .load(&archive)
                    .map(drop)
                    .map_err(|error| error.to_string()),
            };
            let Ok(store) = Store::open(&root) else {
                run(Command::new("umount").arg(disk));
                continue;
            };
            let outcome = add(&store);
            let image = store.named(name).unwrap();
            assert_eq!(outcome.is_ok(), image.is_some(), "{kib} KiB: {outcome:?}");
            let problems = store.check(false).unwrap_or_default();
            assert_eq!(problems, [], "{kib} KiB: {outcome:?}");
            match image {
                Some(image) => {
                    new += 1;
                    store.open_root(&image).unwrap();
                    let both = [(image, vec![name.clone()])];
                    store
                        .save(&both, image::Format::Docker, &mut std::io::sink())
                        .unwrap();
                }
                None => {
                    old += 1;
                    // With more space it succeeds, whatever was left.
                    run(Command::new("mount")
                        .args(["-o", "remount,size=4096k"])
                        .arg(disk));
                    add(&store).unwrap();
                    assert_eq!(store.check(false).unwrap(), []);
                    let tmp = std::fs::read_dir(root.join("tmp")).unwrap().count();
                    assert_eq!(tmp, 0, "{kib} KiB");
                }
            }
            drop(store);
            run(Command::new("umount").arg(disk));
        }
    }
    println!("\n{old} old, {new} new");
    assert!(old > 20 && new > 4, "{old} old, {new} new");
}

#[test]
fn a_small_file_system_holds_the_old_state_or_the_new() {
    let (registry, home) = published();
    let archive = home.path().join("archive.tar");
    let layout = format!("oci:{}:one", home.path().join("layout").display());
    let target = format!("docker-archive:{}:loaded:1", archive.display());
    skopeo(&["copy", "-q", &layout, &target]);
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    run(Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "small::fills_file_systems_in_a_namespace_of_its_own",
            "--ignored",
        ])
        .env(DISK, &disk)
        .env(FROM, registry.name("app:1").to_string())
        .env(ARCHIVE, &archive));
}

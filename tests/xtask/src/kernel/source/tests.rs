//! Tests of unpacking, with a source of a few bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Patches, Pin, release, unpacked};

const MAKEFILE: &str =
    "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = Baby\n";

fn pin(directory: &Path) -> Pin {
    let file = directory.join("VERSION");
    fs::write(&file, "6.12.117\n").unwrap();
    Pin::read(&file).unwrap()
}

fn tarball(directory: &Path, makefile: &str) -> PathBuf {
    let tree = directory.join("linux-source-6.12");
    fs::create_dir_all(tree.join("drivers/gpu/drm")).unwrap();
    fs::write(tree.join("Makefile"), makefile).unwrap();
    fs::write(tree.join("drivers/gpu/drm/huge.c"), "int x;\n").unwrap();
    fs::write(tree.join("drivers/gpu/drm/Kconfig"), "\n").unwrap();
    let file = directory.join("source.tar");
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&file)
        .arg("-C")
        .arg(directory)
        .arg("linux-source-6.12")
        .status();
    assert!(status.unwrap().success());
    file
}

#[test]
fn reads_the_release_of_a_makefile() {
    assert_eq!(release(MAKEFILE).as_deref(), Some("6.12.117"));
    assert_eq!(release("VERSION = 6\nPATCHLEVEL = 12\n"), None);
    assert_eq!(
        release("VERSION = six\nPATCHLEVEL = 12\nSUBLEVEL = 1\n"),
        None
    );
}

#[test]
fn unpacks_once_and_leaves_out_what_is_never_compiled() {
    let home = tempfile::tempdir().unwrap();
    let file = tarball(home.path(), MAKEFILE);
    let first = unpacked(
        home.path(),
        Some(&file),
        &pin(home.path()),
        &Patches::default(),
    )
    .unwrap();
    assert_eq!(first.release, "6.12.117");
    assert!(first.tree.join("drivers/gpu/drm/Kconfig").exists());
    assert!(!first.tree.join("drivers/gpu/drm/huge.c").exists());
    fs::write(first.tree.join("mark"), "").unwrap();
    let second = unpacked(
        home.path(),
        Some(&file),
        &pin(home.path()),
        &Patches::default(),
    )
    .unwrap();
    assert!(second.tree.join("mark").exists(), "unpacked a second time");
}

#[test]
fn refuses_another_series_and_a_missing_or_foreign_tarball() {
    let home = tempfile::tempdir().unwrap();
    let pin = pin(home.path());
    let error = |file: &Path| {
        format!(
            "{:#}",
            unpacked(home.path(), Some(file), &pin, &Patches::default()).unwrap_err()
        )
    };
    let old = tarball(home.path(), &MAKEFILE.replace("12", "1"));
    assert!(error(&old).contains("written for 6.12"), "{}", error(&old));
    assert!(error(&home.path().join("absent.tar")).contains("apt-get install linux-source-6.12"));
    let garbage = home.path().join("garbage.tar.xz");
    fs::write(&garbage, "not a tarball").unwrap();
    assert!(
        error(&garbage).contains("Cannot unpack"),
        "{}",
        error(&garbage)
    );
}

//! Tests of patching, with a tree of one file.

use std::fs;

use super::Patches;

const FITS: &str =
    "Doubles two\n\n--- a/dir/file\n+++ b/dir/file\n@@ -1,3 +1,3 @@\n one\n-two\n+four\n three\n";
const MISSES: &str =
    "--- a/dir/file\n+++ b/dir/file\n@@ -1,3 +1,3 @@\n uno\n-dos\n+cuatro\n tres\n";

#[test]
fn applies_what_fits_and_leaves_out_what_does_not() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("dir")).unwrap();
    fs::write(home.path().join("dir/file"), "one\ntwo\nthree\n").unwrap();
    fs::write(home.path().join("a.patch"), MISSES).unwrap();
    fs::write(home.path().join("b.patch"), FITS).unwrap();
    fs::write(home.path().join("README"), "no patch").unwrap();
    let patches = Patches::read(home.path()).unwrap();
    assert_eq!(patches.text(), format!("{MISSES}{FITS}"));
    patches.apply(home.path()).unwrap();
    let result = fs::read_to_string(home.path().join("dir/file")).unwrap();
    assert_eq!(result, "one\nfour\nthree\n");
    let left: Vec<_> = fs::read_dir(home.path().join("dir")).unwrap().collect();
    assert_eq!(left.len(), 1, "patch left a reject: {left:?}");
}

#[test]
fn each_patch_of_this_repository_says_why_and_names_its_licence() {
    let patches = Patches::read(&crate::workspace::root().join("kernel-config/patches")).unwrap();
    assert!(!patches.files.is_empty());
    for (path, text) in &patches.files {
        let reason = text.split("\n--- a/").next().unwrap_or_default();
        assert!(
            reason.lines().count() > 3,
            "{} gives no reason",
            path.display()
        );
        assert!(
            reason.contains("GPL-2.0-only"),
            "{} names no licence",
            path.display()
        );
    }
}

//! Tests of the build steps, with a source tree whose Makefile takes no minutes.

use std::fs;
use std::path::Path;

use super::{Fragment, build};

const CONFIG: &str = "allnoconfig:\n\tgrep -v _LOST $(KCONFIG_ALLCONFIG) > $(O)/.config\n";

fn tree(directory: &Path, vmlinux: &str) {
    fs::create_dir_all(directory.join("kernel/configs")).unwrap();
    fs::write(
        directory.join("kernel/configs/tiny-base.config"),
        "CONFIG_EXPERT=y\n",
    )
    .unwrap();
    fs::write(directory.join("kernel/configs/tiny.config"), "CONFIG_A=n\n").unwrap();
    fs::write(
        directory.join("Makefile"),
        format!("{CONFIG}vmlinux:\n{vmlinux}"),
    )
    .unwrap();
}

fn fragment(name: &str, text: &str) -> Fragment {
    let file = tempfile::NamedTempFile::with_suffix(name).unwrap();
    fs::write(file.path(), text).unwrap();
    let mut fragment = Fragment::default();
    fragment.add_file(file.path()).unwrap();
    fragment
}

#[test]
fn puts_a_compact_kernel_its_configuration_and_its_map_into_the_output() {
    let home = tempfile::tempdir().unwrap();
    let output = tempfile::tempdir().unwrap();
    tree(
        home.path(),
        "\techo 'int main(void){return 0;}' | gcc -g -x c -o $(O)/vmlinux -\n\ttouch $(O)/System.map\n",
    );
    let objects = home.path().join("objects");
    build(
        home.path(),
        &objects,
        &fragment("a", "CONFIG_A=y # wanted\n"),
        output.path(),
    )
    .unwrap();
    let kernel = fs::read(output.path().join("vmlinux")).unwrap();
    assert_eq!(kernel[60..62], [0, 0], "still with sections");
    let config = fs::read_to_string(output.path().join("config")).unwrap();
    assert!(
        config.starts_with("CONFIG_EXPERT=y\n") && config.ends_with("CONFIG_A=y\n"),
        "{config}"
    );
    assert!(output.path().join("System.map").exists());
}

#[test]
fn fails_before_compiling_when_an_option_was_lost() {
    let home = tempfile::tempdir().unwrap();
    tree(home.path(), "\ttouch $(O)/compiled\n");
    let objects = home.path().join("objects");
    let error = build(
        home.path(),
        &objects,
        &fragment("b", "CONFIG_LOST=y # wanted\n"),
        home.path(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("CONFIG_LOST: y is asked for, n"),
        "{error}"
    );
    assert!(!objects.join("compiled").exists());
}

#[test]
fn shows_what_the_compiler_said_last() {
    let home = tempfile::tempdir().unwrap();
    tree(
        home.path(),
        "\techo 'fs/file.c:7: error: no such thing' >&2; exit 3\n",
    );
    let objects = home.path().join("objects");
    let error = build(
        home.path(),
        &objects,
        &fragment("c", "CONFIG_A=y # wanted\n"),
        home.path(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("fs/file.c:7: error: no such thing"),
        "{error}"
    );
}

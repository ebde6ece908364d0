//! Images come from docker archives, OCI layouts and OCI archives, with plain, gzip and zstd layers, all alike.

use tests::archive::{Compression, Image};
use tests::fixture::{self, scratch};
use tests::vm;

#[test]
fn every_form_of_an_image_runs() {
    let oci = fixture::busybox_oci();
    let zstd = fixture::busybox_zstd();
    for image in [
        &oci,
        &format!("{oci}:latest"),
        &zstd,
        &format!("{zstd}:latest"),
        &fixture::busybox(),
    ] {
        vm().image(image).run("echo it runs").prints("it runs\n");
    }
}

#[test]
fn a_tag_that_is_not_there_is_named() {
    vm().image(&format!("{}:absent", fixture::busybox_oci()))
        .run("true")
        .exits(125)
        .complains("absent");
}

#[test]
fn an_image_without_a_command_says_so() {
    let directory = scratch("no-command").unwrap();
    let file = directory.join("image.tar");
    let layer = tests::archive::Layer::new().finish().unwrap();
    let image = Image {
        layers: vec![layer],
        config: serde_json::json!({}),
    };
    std::fs::write(
        &file,
        image.oci_archive("latest", Compression::Plain).unwrap(),
    )
    .unwrap();
    vm().image(&format!("oci-archive:{}", file.display()))
        .finish()
        .exits(125)
        .complains("ommand");
    std::fs::remove_dir_all(directory).unwrap();
}

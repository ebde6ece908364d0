//! What skopeo and umoci (Debian) make of the same images must agree with ours.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::{Digest, Platform, media_type};

use crate::fixture::{Home, Image, Registry, noise, run};

pub(crate) fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let policy = "--insecure-policy";
    run(Command::new("skopeo").arg(policy).args(arguments))
}

/// An OCI layout with a real file system, made by umoci.
pub(crate) fn layout(directory: &Path) -> String {
    let layout = directory.join("layout");
    let image = format!("{}:one", layout.display());
    let umoci = |arguments: &[&str]| run(Command::new("umoci").args(arguments));
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    for (number, text) in ["first", "second"].iter().enumerate() {
        let tree = directory.join(format!("tree{number}"));
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/file"), text).unwrap();
        fs::write(tree.join(format!("data{number}")), noise(7, 200_000)).unwrap();
        // (umoci's own `insert` leaves out the end of the tar.)
        let tar = directory.join(format!("layer{number}.tar"));
        run(Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "-cf"])
            .arg(&tar)
            .arg("-C")
            .arg(&tree)
            .arg("."));
        umoci(&["raw", "add-layer", "--image", &image, tar.to_str().unwrap()]);
    }
    umoci(&[
        "config",
        "--image",
        &image,
        "--architecture",
        "amd64",
        "--os",
        "linux",
        "--config.cmd",
        "sh",
    ]);
    image
}

#[test]
fn images_pushed_by_skopeo_are_pulled_with_the_same_digests() {
    let registry = Registry::start();
    let home = Home::new();
    let image = layout(home.path());
    for (format, kind) in [
        ("oci", media_type::OCI_MANIFEST),
        ("v2s2", media_type::DOCKER_MANIFEST),
    ] {
        let target = format!("docker://{}/app:{format}", registry.address);
        skopeo(&[
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--format",
            format,
            &format!("oci:{image}"),
            &target,
        ]);
        let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &target]);
        let repository = Arc::new(
            home.client()
                .open(&registry.name(&format!("app:{format}")))
                .unwrap(),
        );
        let fetched = repository.manifest(&Platform::host()).unwrap();
        assert_eq!(fetched.bytes, raw);
        assert_eq!(fetched.media_type, kind);
        let (config, parsed) = repository
            .config(&fetched.manifest, &Platform::host())
            .unwrap();
        assert_eq!(
            config,
            skopeo(&[
                "inspect",
                "--tls-verify=false",
                "--config",
                "--raw",
                &target
            ])
        );
        assert_eq!(parsed.config.cmd, ["sh"]);
        assert_eq!(fetched.manifest.layers.len(), 2);
        for layer in &fetched.manifest.layers {
            let mut bytes = Vec::new();
            std::io::copy(&mut repository.blob(layer), &mut bytes).unwrap();
            assert_eq!(Digest::of(&bytes), layer.digest);
        }
    }
}

#[test]
fn images_pushed_by_us_are_read_by_skopeo() {
    let registry = Registry::start();
    let home = Home::new();
    let image = Image::new(vec![noise(1, 50_000), noise(2, 70_000)]);
    image.publish(&home.client(), &registry.name("app:1"));
    let source = format!("docker://{}/app:1", registry.address);
    let out = home.path().join("out");
    skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        &source,
        &format!("dir:{}", out.display()),
    ]);
    assert_eq!(fs::read(out.join("manifest.json")).unwrap(), image.manifest);
    for blob in image.layers.iter().chain([&image.config]) {
        assert!(fs::read(out.join(Digest::of(blob).hex())).unwrap() == *blob);
    }
}

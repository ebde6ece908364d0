//! Images come from docker archives, OCI layouts and OCI archives, with plain, gzip and zstd layers, all alike.

use std::path::Path;
use std::process::Command;

use tests::archive::{Compression, Image};
use tests::fixture::{self, scratch};
use tests::{Vm, hull, vm};

/// With a store that only this test uses.
fn in_store(vm: Vm, store: &Path) -> Vm {
    vm.host_env("HULL_ROOT", store).host_env("HOME", store)
}

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

#[test]
fn an_image_is_run_by_its_id() {
    let store = scratch("by-id").unwrap();
    let load = hull(["load", "--input"]).image(fixture::path("busybox.tar").to_str().unwrap());
    in_store(load, &store)
        .finish()
        .prints("Loaded image: busybox:latest\n");
    let id = in_store(hull(["images", "--quiet", "--no-trunc"]), &store).finish();
    let id = id.out().trim().to_owned();
    let hex = id.strip_prefix("sha256:").unwrap();
    let run = |image: &str| in_store(vm().image(image), &store).run("echo it runs");
    for image in [&id, hex, &hex[..12], &hex[..4], "busybox"] {
        run(image).prints("it runs\n");
    }
    let other: String = hex.chars().rev().collect();
    run(&other).exits(125).complains("no image");
    in_store(
        vm().image(&other[..12]).options(["--pull", "never"]),
        &store,
    )
    .run("true")
    .exits(125)
    .complains("not in the store");
    std::fs::remove_dir_all(store).unwrap();
}

#[test]
fn an_archive_comes_by_standard_input() {
    let store = scratch("stdin").unwrap();
    let archive = std::fs::read(fixture::path("busybox.tar")).unwrap();
    let zstd = std::fs::read(fixture::path("busybox-zstd.tar")).unwrap();
    // What is read as the image is not the command's any more.
    for (archive, options) in [(&archive, &[][..]), (&zstd, &["-i"])] {
        in_store(vm().image("-").options(options), &store)
            .feed(archive.clone())
            .run("cat; echo it runs")
            .prints("it runs\n");
    }
    for source in [&[][..], &["-"]] {
        in_store(hull(["load"]).options(source), &store)
            .feed(archive.clone())
            .finish()
            .prints("Loaded image: busybox:latest\n");
    }
    let tree = scratch("stdin-tree").unwrap();
    std::fs::create_dir(tree.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let mut tar = Command::new("tar");
    let tar = tar.args(["-czf", "-", "-C"]).arg(&tree).arg(".").output();
    let import = [
        "import",
        "--change",
        "CMD [\"/bin/busybox\",\"echo\",\"imported\"]",
    ];
    in_store(hull(import).options(["-", "tree:1"]), &store)
        .feed(tar.unwrap().stdout)
        .finish()
        .exits(0);
    in_store(hull(["run", "--rm"]).image("tree:1"), &store)
        .finish()
        .prints("imported\n");
    for (verb, code) in [
        (&["load"][..], 1),
        (&["import", "-"], 1),
        (&["run", "-"], 125),
    ] {
        in_store(hull(verb.iter().copied()), &store)
            .feed(archive[..1000].to_vec())
            .finish()
            .exits(code);
    }
    std::fs::remove_dir_all(store).unwrap();
    std::fs::remove_dir_all(tree).unwrap();
}

#[test]
fn an_image_of_podmans_store_runs() {
    let home = scratch("podman").unwrap();
    let conf = home.join("storage.conf");
    let text = format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
        home.display()
    );
    std::fs::write(&conf, text).unwrap();
    let podman = |arguments: &[&str]| {
        let mut podman = Command::new("podman");
        podman.env("CONTAINERS_STORAGE_CONF", &conf).args(arguments);
        let output = podman.output().expect("podman is needed");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    podman(&[
        "load",
        "-q",
        "-i",
        fixture::path("busybox.tar").to_str().unwrap(),
    ]);
    in_store(vm().image("containers-storage:localhost/busybox"), &home)
        .host_env("CONTAINERS_STORAGE_CONF", &conf)
        .run("echo it runs")
        .prints("it runs\n");
    in_store(vm().image("containers-storage:localhost/none"), &home)
        .host_env("CONTAINERS_STORAGE_CONF", &conf)
        .run("true")
        .exits(125)
        .complains("podman says");
    // What it saves has the same digest here, and runs.
    let id = podman(&[
        "image",
        "inspect",
        "--format",
        "{{.Id}}",
        "localhost/busybox",
    ]);
    let saved = home.join("saved.tar");
    podman(&[
        "save",
        "-q",
        "-o",
        saved.to_str().unwrap(),
        "localhost/busybox",
    ]);
    in_store(
        hull(["load", "-q", "-i"]).image(saved.to_str().unwrap()),
        &home,
    )
    .finish()
    .prints(&format!("sha256:{id}\n"));
    in_store(vm().image("localhost/busybox"), &home)
        .run("echo it runs")
        .prints("it runs\n");
    std::fs::remove_dir_all(home).unwrap();
}

//! Images of podman's store, exported by whichever of podman and skopeo there is.

use std::path::Path;
use std::process::Command;

use image::reference::Source;
use image::{Digest, GetError, Store};

use crate::fixture::{Home, run};
use crate::skopeo::{layout, skopeo};

const ROOT: &str = "HULL_TEST_EXPORT_ROOT";
const SOURCE: &str = "HULL_TEST_EXPORT_SOURCE";

/// The other half of the next test: the tools find podman's store by the environment.
#[test]
#[ignore = "is run by an_image_of_podmans_store_is_converted_once, which gives it its work"]
fn gets_in_a_process_of_its_own() {
    let root = std::env::var_os(ROOT).expect("run by another test only");
    let source = Source::parse(&std::env::var_os(SOURCE).unwrap()).unwrap();
    let store = Store::open(Path::new(&root)).unwrap();
    match store.get(&source) {
        Ok(image) => println!("\nimage {}", image.id),
        Err(GetError::Export { source, .. }) => println!("\nrefused {source}"),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn an_image_of_podmans_store_is_converted_once() {
    let home = Home::new();
    let oci = format!("oci:{}", layout(home.path()));
    let root = home.path().join("containers");
    let conf = home.write(
        "storage.conf",
        format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
            root.display()
        ),
    );
    let mut copy = Command::new("skopeo");
    copy.args([
        "--insecure-policy",
        "copy",
        "-q",
        &oci,
        "containers-storage:localhost/app:1",
    ]);
    run(copy.env("CONTAINERS_STORAGE_CONF", &conf));
    let get = |name: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "exports::gets_in_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .env("CONTAINERS_STORAGE_CONF", &conf)
            .env(ROOT, home.path().join("store"))
            .env(SOURCE, format!("containers-storage:{name}"));
        let said = String::from_utf8(run(&mut child)).unwrap();
        let mut lines = said.lines();
        let line = lines.find(|line| line.starts_with("image ") || line.starts_with("refused "));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let id = Digest::of(&skopeo(&["inspect", "--config", "--raw", &oci]));
    assert_eq!(get("localhost/app:1"), format!("image {id}"));
    // The second time it is not exported: the layers may be gone by then.
    let layers = root.join("graph/vfs/dir");
    std::fs::rename(&layers, root.join("elsewhere")).unwrap();
    assert_eq!(get("localhost/app:1"), format!("image {id}"));
    assert!(get("localhost/none:1").starts_with("refused "));
}

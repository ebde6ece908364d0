//! Archives that are broken or mean harm are refused with words that say why, and leave the store as it was.

use std::path::Path;

use tests::archive::{Compression, Image, Layer, mode};
use tests::fixture::{self, scratch};
use tests::{Outcome, vm};

/// Everything beneath a directory, with sizes.
fn listing(directory: &Path) -> Vec<String> {
    let output = std::process::Command::new("find")
        .arg(directory)
        .args(["-type", "f", "-printf", "%P %s\n"])
        .output();
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.unwrap().stdout)
        .lines()
        .map(Into::into)
        .collect();
    lines.sort();
    lines
}

/// Runs an archive that must be refused, in a store of its own that must stay as it was.
fn refused(name: &str, kind: &str, bytes: &[u8]) -> Outcome {
    let directory = scratch(name).unwrap();
    let store = directory.join("store");
    let file = directory.join("image.tar");
    std::fs::write(&file, bytes).unwrap();
    vm().host_env("HULL_ROOT", &store).run("true").exits(0);
    let before = listing(&store);
    let image = format!("{kind}:{}", file.display());
    let outcome = vm()
        .image(&image)
        .host_env("HULL_ROOT", &store)
        .run("echo it ran");
    outcome.exits(125).complains("error:");
    assert_eq!(outcome.out(), "", "{outcome:?}");
    assert_eq!(listing(&store), before, "the store after {outcome:?}");
    std::fs::remove_dir_all(directory).unwrap();
    outcome
}

fn image_of(layer: Layer) -> Vec<u8> {
    let image = Image {
        layers: vec![layer.finish().unwrap()],
        config: serde_json::json!({ "Cmd": ["sh"] }),
    };
    image.oci_archive("latest", Compression::Gzip).unwrap()
}

#[test]
fn truncated_and_garbled_archives() {
    let good = std::fs::read(fixture::path("busybox.tar")).unwrap();
    refused("truncated", "docker-archive", &good[..good.len() / 2]);
    refused("empty", "docker-archive", b"");
    refused("garbage", "docker-archive", &[0x5a; 5000]);
}

#[test]
fn a_layer_that_is_not_what_its_digest_says() {
    let mut files = Image {
        layers: vec![Layer::new().finish().unwrap()],
        config: serde_json::json!({ "Cmd": ["sh"] }),
    }
    .oci("latest", Compression::Gzip)
    .unwrap();
    let largest = files
        .iter()
        .filter(|(name, _)| name.starts_with("blobs"))
        .min_by_key(|(_, bytes)| bytes.len());
    let name = largest.unwrap().0.clone();
    *files.get_mut(&name).unwrap().last_mut().unwrap() ^= 1;
    let mut outer = Layer::new();
    for (path, bytes) in files {
        outer.file(path, mode(0o644), &bytes).unwrap();
    }
    refused("digest", "oci-archive", &outer.finish().unwrap());
}

#[test]
fn names_that_lead_out_of_the_root() {
    for (name, path) in [
        ("up", "../../escaped".as_bytes()),
        ("inside", b"a/../../../escaped"),
    ] {
        let mut layer = Layer::new();
        layer
            .raw(tar::EntryType::Regular, path, b"", b"escaped")
            .unwrap();
        refused(name, "oci-archive", &image_of(layer));
        assert!(!Path::new("/escaped").exists());
    }
}

#[test]
fn absolute_names_are_names_in_the_image() {
    let directory = scratch("absolute").unwrap();
    let file = directory.join("image.tar");
    let planted = directory.join("planted");
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut layer = Layer::new();
    layer.file("bin/cat", mode(0o755), &busybox).unwrap();
    let name = planted.to_str().unwrap().as_bytes();
    layer
        .raw(tar::EntryType::Regular, name, b"", b"inside\n")
        .unwrap();
    std::fs::write(&file, image_of(layer)).unwrap();
    vm().image(&format!("oci-archive:{}", file.display()))
        .command(["/bin/cat".as_ref(), planted.as_os_str()])
        .finish()
        .prints("inside\n");
    assert!(!planted.exists());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn gigantic_sizes() {
    let records: [&[(&str, &[u8])]; 2] = [
        &[("size", b"9000000000000000000")],
        &[
            ("GNU.sparse.size", b"9000000000000000000"),
            ("GNU.sparse.map", b"0,0"),
        ],
    ];
    for records in records {
        let mut layer = Layer::new();
        layer.records(records).unwrap();
        layer.file("gigantic", mode(0o644), b"").unwrap();
        refused("gigantic", "oci-archive", &image_of(layer));
    }
}

#[test]
fn a_directory_of_100_000_entries() {
    let directory = scratch("crowd").unwrap();
    let file = directory.join("image.tar");
    let mut layer = Layer::new();
    let busybox = std::fs::read("/bin/busybox").unwrap();
    layer.file("bin/busybox", mode(0o755), &busybox).unwrap();
    layer.symlink("bin/sh", "busybox").unwrap();
    let mut names = String::new();
    for number in 0..100_000 {
        let name = format!("entry-{number:05}");
        let path = format!("crowd/{name}");
        let content: &[u8] = if number == 77_777 { b"found\n" } else { b"" };
        layer.file(path, mode(0o644), content).unwrap();
        names += &name;
        names.push('\n');
    }
    let image = Image {
        layers: vec![layer.finish().unwrap()],
        config: serde_json::json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] }),
    };
    std::fs::write(&file, image.docker_archive("crowd:latest").unwrap()).unwrap();
    let script = "
        busybox ls /crowd | busybox sha256sum | busybox cut -c 1-64
        busybox find /crowd -type f | busybox wc -l
        busybox cat /crowd/entry-77777
        busybox rm /crowd/entry-00000 && : >/crowd/one-more
        busybox ls /crowd | busybox wc -l";
    let expected = format!(
        "{}\n100000\nfound\n100000\n",
        tests::archive::hexadecimal(names.as_bytes())
    );
    vm().image(&format!("docker-archive:{}", file.display()))
        .run(script)
        .prints(&expected);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn hard_links_to_nothing() {
    let mut layer = Layer::new();
    layer.hard_link("a", "b").unwrap();
    layer.hard_link("b", "a").unwrap();
    refused("cycle", "oci-archive", &image_of(layer));
}

#[test]
fn a_link_out_of_the_root_leads_nowhere_on_the_host() {
    let directory = scratch("link").unwrap();
    let file = directory.join("image.tar");
    let mut layer = Layer::new();
    layer.symlink("outside", &directory).unwrap();
    layer
        .file("outside/planted", mode(0o644), b"planted")
        .unwrap();
    std::fs::write(&file, image_of(layer)).unwrap();
    // Whether it is refused or the link replaced by a directory: nothing is planted here.
    let _ = vm()
        .image(&format!("oci-archive:{}", file.display()))
        .run("true");
    assert!(!directory.join("planted").exists());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn command_lines_that_make_no_sense() {
    vm().options(["--memory", "lots"])
        .run("true")
        .exits(125)
        .complains("lots");
    vm().options(["--memory", "1k"]).run("true").exits(125);
    vm().options(["--hostname", "not a name"])
        .run("true")
        .exits(125)
        .complains("not a name");
    vm().options(["-w", "relative"])
        .run("true")
        .exits(125)
        .complains("relative");
    vm().image("no-such-kind:/file")
        .run("true")
        .exits(125)
        .complains("no-such-kind");
}

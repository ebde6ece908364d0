//! What the real program makes of archives that want more than they give, and of being killed at its work. Runs nothing, so
//! it needs no KVM: bombs of the size that the real limits allow go off at the speed of this machine, not of the lab.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::archive::{Compression, Image, Layer, digest, hexadecimal, mode};
use tests::fixture::scratch;
use tests::hull;

/// What the file in a bomb says it has: above what any archive may unpack to however small it is (4 GiB), and what those
/// below may at two hundred times their size.
const SIZE: u64 = 6 << 30;
/// Memory that the conversion of anything may take, addresses included.
const MEMORY: &str = "--as=536870912";
/// The largest file it may write.
const FILE: &str = "--fsize=6000000000";

/// A tar archive with one file of zeros, packed in pieces: both formats take one packed stream behind the other.
fn bomb(name: &str, compression: Compression) -> Vec<u8> {
    const PIECE: usize = 64 << 20;
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_size(SIZE);
    header.set_cksum();
    let mut bytes = pack(header.as_bytes(), compression);
    let zeros = pack(&vec![0; PIECE], compression);
    for _ in 0..=SIZE / PIECE as u64 {
        bytes.extend_from_slice(&zeros);
    }
    bytes
}

/// Packs as tightly as the format can.
fn pack(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Plain => bytes.to_vec(),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(bytes).unwrap();
            gzip.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 3).unwrap(),
    }
}

/// An OCI layout as an archive, with this layer.
fn image_with(layer: &[u8], suffix: &str) -> Vec<u8> {
    let mut outer = Layer::new();
    let mut blob = |kind: &str, bytes: &[u8]| {
        let path = format!("blobs/sha256/{}", hexadecimal(bytes));
        outer.file(path, mode(0o644), bytes).unwrap();
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": digest(bytes),
            "size": bytes.len(),
        })
    };
    // Nobody gets as far as to compare this digest.
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["true"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(b"whatever")] },
    });
    let config = blob("config.v1+json", config.to_string().as_bytes());
    let layer = blob(&format!("layer.v1.tar{suffix}"), layer);
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = blob("manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    outer
        .file("index.json", mode(0o644), index.to_string().as_bytes())
        .unwrap();
    outer.finish().unwrap()
}

/// A small image of a few files that differ from each other.
fn image(files: u32, length: u32) -> Vec<u8> {
    let mut layer = Layer::new();
    for file in 0..files {
        let content: Vec<u8> = (0..length / 4)
            .flat_map(|word| (word ^ file).wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        layer
            .file(format!("file-{file}"), mode(0o644), &content)
            .unwrap();
    }
    let image = Image {
        layers: vec![layer.finish().unwrap()],
        config: json!({ "Cmd": ["true"] }),
    };
    image.docker_archive("small:latest").unwrap()
}

/// Everything beneath a directory, with sizes and contents.
fn contents(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, hexadecimal(&bytes)));
            }
        }
    }
    found.sort();
    found
}

fn load(store: &Path, archive: &Path) -> Command {
    let mut command = Command::new(tests::run::program());
    command.env("HULL_ROOT", store).args(["load", "--input"]);
    command.arg(archive).stdin(Stdio::null());
    command
}

/// Loads an archive with little memory.
fn load_in_little(store: &Path, archive: &Path) -> Output {
    let plain = load(store, archive);
    let mut command = Command::new("prlimit");
    command.args([MEMORY, FILE]).arg(plain.get_program());
    command.args(plain.get_args()).env("HULL_ROOT", store);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn bombs_in_layers_and_around_archives_are_refused() {
    let directory = scratch("bombs").unwrap();
    let (store, archive) = (directory.join("store"), directory.join("archive"));
    std::fs::write(&archive, image(10, 1000)).unwrap();
    let outcome = load_in_little(&store, &archive);
    assert!(outcome.status.success(), "{outcome:?}");
    let before = contents(&store);
    for (compression, suffix) in [(Compression::Gzip, "+gzip"), (Compression::Zstd, "+zstd")] {
        let around = bomb("manifest.json", compression);
        let inside = image_with(&bomb("zeros", compression), suffix);
        for (place, bytes) in [("around", around), ("inside", inside)] {
            std::fs::File::create(&archive)
                .unwrap()
                .write_all(&bytes)
                .unwrap();
            let outcome = load_in_little(&store, &archive);
            let said = String::from_utf8_lossy(&outcome.stderr);
            let told = format!("{compression:?} {place}: {}\n{said}", outcome.status);
            assert_eq!(outcome.status.code(), Some(1), "{told}");
            assert!(said.contains("decompression bomb"), "{told}");
            assert_eq!(contents(&store), before, "{told}");
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn killed_at_any_moment_of_a_conversion() {
    let directory = scratch("killed").unwrap();
    let (store, archive) = (directory.join("store"), directory.join("archive"));
    std::fs::write(&archive, image(200, 200_000)).unwrap();
    let start = Instant::now();
    let first = directory.join("first");
    assert!(load(&first, &archive).output().unwrap().status.success());
    let whole = start.elapsed();
    let loaded = contents(&first).len();
    let (mut early, mut late) = (0, 0);
    for round in 0..40_u32 {
        let mut command = load(&store, &archive);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(whole * (round * 7 % 40) / 20);
        child.kill().unwrap();
        child.wait().unwrap();
        let check = hull(["system", "check"]).host_env("HULL_ROOT", &store);
        check.finish().exits(0);
        let list = hull(["images", "-q"]).host_env("HULL_ROOT", &store);
        let list = list.finish();
        list.exits(0);
        // It may have come as far as to a whole image that has no name yet.
        match list.out().trim() {
            "" => early += 1,
            id => {
                late += 1;
                let remove = hull(["rmi", id]).host_env("HULL_ROOT", &store);
                remove.finish().exits(0);
            }
        }
    }
    assert!(early > 0 && late > 0, "{early} early, {late} late");
    // The next one finds nothing in its way, and leaves what one leaves that was never disturbed.
    assert!(load(&store, &archive).output().unwrap().status.success());
    assert_eq!(contents(&store).len(), loaded, "{:?}", contents(&store));
    assert!(start.elapsed() < Duration::from_secs(120));
    std::fs::remove_dir_all(directory).unwrap();
}

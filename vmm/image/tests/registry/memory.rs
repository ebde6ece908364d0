//! Large images of many layers are pulled, and looked at again, in bounded memory.

use std::path::Path;
use std::process::Command;

use image::reference::Reference;
use image::registry::Content;
use image::{Descriptor, Digest, Manifest, Platform, Pull, Store, media_type};

use crate::fixture::{Home, Registry, noise, run};

const ROOT: &str = "HULL_TEST_MEMORY_ROOT";
const FROM: &str = "HULL_TEST_MEMORY_FROM";
const LAYERS: u64 = 60;
/// Bytes of one layer's file: 1 GB in all.
const FILE: usize = 17_000_000;
/// Most that may be resident, in KiB: it does not grow with the image.
const MOST: u64 = 64 << 10;

/// The other half of the next test: in a process whose memory is its own.
#[test]
#[ignore = "is run by sixty_layers_are_pulled_in_little_memory, which gives it its work"]
fn pulls_in_a_process_of_its_own() {
    let root = std::env::var_os(ROOT).expect("run by another test only");
    let from: Reference = std::env::var(FROM).unwrap().parse().unwrap();
    let home = Home::new();
    let store = Store::open(Path::new(&root)).unwrap();
    let client = home.client();
    let pull = Pull {
        client: &client,
        policy: None,
        platform: Platform::host(),
        progress: std::sync::Arc::new(image::registry::Unwatched),
    };
    let image = store.pull(&from, &pull).unwrap().image;
    assert!(image.bytes > LAYERS * FILE as u64);
    let root = store.open_root(&image).unwrap();
    drop(root);
    assert_eq!(store.check(false).unwrap(), []);
    let both = [(image, vec![from])];
    store
        .save(&both, image::Format::Docker, &mut std::io::sink())
        .unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
    println!("\n{}", peak.unwrap());
}

#[test]
fn sixty_layers_are_pulled_in_little_memory() {
    let registry = Registry::start();
    let home = Home::new();
    let to = registry.name("large:1");
    let client = home.client();
    let repository = client.open_for_push(&to).unwrap();
    let mut content = noise(1, FILE);
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for number in 0..LAYERS {
        content[..8].copy_from_slice(&number.to_le_bytes());
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(FILE as u64);
        header.set_mode(0o644);
        let path = format!("file{number}");
        tar.append_data(&mut header, path, &content[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let layer = Descriptor::of(media_type::OCI_LAYER, &tar);
        repository
            .push_blob(&layer, Content::Bytes(&tar), None)
            .unwrap();
        diff_ids.push(Digest::of(&tar));
        layers.push(layer);
    }
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let described = Descriptor::of(media_type::OCI_CONFIG, &config);
    repository
        .push_blob(&described, Content::Bytes(&config), None)
        .unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: described,
        layers,
        annotations: None,
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    repository
        .push_manifest(&manifest, media_type::OCI_MANIFEST)
        .unwrap();
    let said = run(Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::pulls_in_a_process_of_its_own"])
        .args(["--ignored", "--nocapture"])
        .env(ROOT, home.path().join("store"))
        .env(FROM, to.to_string()));
    let said = String::from_utf8(said).unwrap();
    let peak = said.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap_or_else(|| panic!("{said}"));
    eprintln!("60 layers, 1.02 GB: at most {} resident", peak.trim());
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < MOST, "{kib} KiB");
}

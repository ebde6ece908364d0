//! A registry from Debian, a home of its own for the client, and images to put there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image::reference::Reference;
use image::registry::{Client, Content, Limits, Progress, Settings};
use image::{Descriptor, Digest, Manifest, Platform, media_type};
pub(crate) use tests::registry::{PASSWORD, USER};

/// Debian's registry, serving on the loopback until dropped.
pub(crate) struct Registry(tests::registry::Registry);

impl Registry {
    pub(crate) fn start() -> Self {
        Self(tests::registry::Registry::start().unwrap())
    }

    pub(crate) fn with_password() -> Self {
        Self(tests::registry::Registry::with_password().unwrap())
    }

    pub(crate) fn with_tls() -> Self {
        Self(tests::registry::Registry::with_tls().unwrap())
    }

    /// A name in this registry.
    pub(crate) fn name(&self, rest: &str) -> Reference {
        name(&self.0.address, rest)
    }
}

impl std::ops::Deref for Registry {
    type Target = tests::registry::Registry;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

pub(crate) fn name(address: &str, rest: &str) -> Reference {
    format!("{address}/{rest}").parse().unwrap()
}

/// Runs a tool to its end; its failure is the test's. Gives its standard output.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Where a client finds its configuration.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(String, OsString)>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) tls_verify: Option<bool>,
    pub(crate) limits: Limits,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registries = directory.path().join("registries.conf");
        fs::write(&registries, "").unwrap();
        Self {
            variables: vec![
                ("HOME".into(), directory.path().into()),
                ("PATH".into(), std::env::var_os("PATH").unwrap_or_default()),
                ("CONTAINERS_REGISTRIES_CONF".into(), registries.into()),
            ],
            directory,
            watcher: Arc::default(),
            tls_verify: None,
            limits: Limits {
                // Long enough for a machine that is busy with other things; tests of silence set their own.
                connect: Duration::from_secs(30),
                stall: Duration::from_secs(30),
                document: Duration::from_secs(60),
                attempts: 4,
                pause: Duration::from_millis(5),
                pause_max: Duration::from_secs(2),
            },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    pub(crate) fn client(&self) -> Client {
        let settings = Settings {
            tls_verify: self.tls_verify,
            limits: self.limits.clone(),
            progress: self.watcher.clone(),
        };
        let variable = |name: &str| {
            let mut known = self.variables.iter().rev();
            Some(known.find(|(known, _)| known == name)?.1.clone())
        };
        Client::new(&variable, settings).unwrap()
    }
}

/// Keeps what a transfer told.
#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) told: Mutex<Vec<String>>,
}

impl Watcher {
    pub(crate) fn count(&self, start: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|line| line.starts_with(start)).count()
    }

    fn tell(&self, line: String) {
        self.told.lock().unwrap().push(line);
    }
}

impl Progress for Watcher {
    fn begins(&self, layer: &Digest, size: u64) {
        self.tell(format!("begins {layer} {size}"));
    }
    fn moves(&self, layer: &Digest, bytes: u64) {
        self.tell(format!("moves {layer} {bytes}"));
    }
    fn ends(&self, layer: &Digest, already: bool) {
        self.tell(format!("ends {layer} {already}"));
    }
    fn waiting(&self, host: &str, reason: &str, pause: Duration) {
        self.tell(format!("waiting {host} {reason} {pause:?}"));
    }
    fn note(&self, text: &str) {
        self.tell(format!("note {text}"));
    }
}

/// Bytes that do not repeat, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// An image as bytes. Its layers are what one likes: the client does not look into them.
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

impl Image {
    pub(crate) fn new(layers: Vec<Vec<u8>>) -> Self {
        Self::for_architecture("amd64", layers)
    }

    pub(crate) fn for_architecture(architecture: &str, layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: layers
                .iter()
                .map(|layer| Descriptor::of(media_type::OCI_LAYER, layer))
                .collect(),
            annotations: None,
        };
        Self {
            manifest: serde_json::to_vec(&manifest).unwrap(),
            config,
            layers,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Pushes it with our own client.
    pub(crate) fn publish(&self, client: &Client, to: &Reference) {
        let repository = client.open_for_push(to).unwrap();
        for blob in self.layers.iter().chain([&self.config]) {
            let described = Descriptor::of("", blob);
            repository
                .push_blob(&described, Content::Bytes(blob), None)
                .unwrap();
        }
        let stored = repository
            .push_manifest(&self.manifest, media_type::OCI_MANIFEST)
            .unwrap();
        assert_eq!(stored, self.digest());
    }

    /// Pulls it and compares every byte.
    pub(crate) fn assert_pulled(&self, client: &Client, from: &Reference) {
        let repository = Arc::new(client.open(from).unwrap());
        let fetched = repository.manifest(&Platform::host()).unwrap();
        assert_eq!(fetched.bytes, self.manifest);
        let (config, _) = repository
            .config(&fetched.manifest, &Platform::host())
            .unwrap();
        assert_eq!(config, self.config);
        for (layer, expected) in fetched.manifest.layers.iter().zip(&self.layers) {
            let mut got = Vec::new();
            std::io::copy(&mut repository.blob(layer), &mut got).unwrap();
            assert!(got == *expected, "layer {}", layer.digest);
        }
    }
}

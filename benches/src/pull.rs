//! What converting adds to a pull: over links as fast as the conversion and half as fast, on the machine's own clock.

use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use image::reference::Reference;
use image::registry::{Client, Content, Settings, Unwatched};
use image::{Descriptor, Digest, Expected, Layers, Manifest, Platform, Pull, Store, media_type};

use crate::table::{Table, Target};

/// Layers of the image, and the megabytes of each: half of it repeats, as in programs and texts.
const LAYERS: u32 = 30;
/// See [`LAYERS`].
const MEGABYTES: u32 = 10;

/// Measures how much longer a pull takes than the slower of download and conversion, the best of some tries.
pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let place = tempfile::tempdir_in(tests::target())?;
    let registry = tests::registry::Registry::start()?;
    let image = Image::new()?;
    let client = client(place.path())?;
    image.publish(&client, &name(&registry.address)?)?;
    for (speed, words) in [(0.5, "half as fast as"), (1.0, "as fast as")] {
        let mut least = f64::INFINITY;
        for number in 0..5 {
            let place = place.path().join(format!("{speed}.{number}"));
            let conversion = image.convert(&place.join("converted"))?;
            let download = Duration::from_secs_f64(conversion.as_secs_f64() / speed);
            let link = link(&registry.address, image.bytes() / download.as_secs_f64())?;
            let pull = Pull {
                client: &client,
                policy: None,
                platform: Platform::host(),
                progress: Arc::new(Unwatched),
            };
            let start = Instant::now();
            Store::open(&place.join("pulled"))?.pull(&name(&link)?, &pull)?;
            let added = start.elapsed().as_secs_f64() / download.as_secs_f64() - 1.0;
            least = least.min(added * 100.0);
            std::fs::remove_dir_all(&place)?;
        }
        table.add(
            &format!("added to a download {words} the conversion"),
            least,
            "%",
            &Target::AtMost(10.0),
        );
    }
    Ok(())
}

fn name(address: &str) -> Result<Reference> {
    Ok(format!("{address}/app:1").parse()?)
}

/// A client with nothing of this user's configuration.
fn client(home: &Path) -> Result<Client> {
    let registries = home.join("registries.conf");
    std::fs::write(&registries, "")?;
    let variable = |name: &str| match name {
        "HOME" => Some(home.into()),
        "CONTAINERS_REGISTRIES_CONF" => Some(registries.clone().into()),
        _ => None,
    };
    Client::new(&variable, Settings::default()).map_err(|error| anyhow!("{error}"))
}

/// Serves what is at `address` to any number of connections, at so many bytes a second for all together. Returns its address.
fn link(address: &str, bytes_per_second: f64) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let own = listener.local_addr()?.to_string();
    let address = address.to_owned();
    let free = Arc::new(Mutex::new(Instant::now()));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&address) else {
                return;
            };
            let (Ok(to), Ok(from)) = (server.try_clone(), client.try_clone()) else {
                return;
            };
            let free = free.clone();
            std::thread::spawn(move || relay(from, to, |_| ()));
            std::thread::spawn(move || {
                relay(server, client, |count| {
                    let time = Duration::from_secs_f64(count as f64 / bytes_per_second);
                    let mut free = free.lock().unwrap_or_else(|broken| broken.into_inner());
                    *free = (*free).max(Instant::now()) + time;
                    let until = *free;
                    drop(free);
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                });
            });
        }
    });
    Ok(own)
}

/// Hands on what comes until either side ends.
fn relay(mut from: TcpStream, mut to: TcpStream, mut pace: impl FnMut(usize)) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        pace(count);
        if piece
            .get(..count)
            .is_none_or(|piece| to.write_all(piece).is_err())
        {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

struct Image {
    config: Vec<u8>,
    manifest: Vec<u8>,
    layers: Vec<Vec<u8>>,
    expected: Vec<Expected>,
}

impl Image {
    fn new() -> Result<Self> {
        let made: Result<Vec<_>> = (0..LAYERS).map(layer).collect();
        let (layers, diff_ids): (Vec<_>, Vec<_>) = made?.into_iter().unzip();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: descriptor(media_type::OCI_CONFIG, &config),
            layers: layers
                .iter()
                .map(|layer| descriptor(media_type::OCI_LAYER_GZIP, layer))
                .collect(),
            annotations: None,
        };
        let expected = layers
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| Expected {
                digest: Some(Digest::of(layer)),
                size: layer.len() as u64,
                diff_id,
            });
        Ok(Self {
            expected: expected.collect(),
            manifest: serde_json::to_vec(&manifest)?,
            config,
            layers,
        })
    }

    fn bytes(&self) -> f64 {
        self.layers.iter().map(|layer| layer.len() as f64).sum()
    }

    fn publish(&self, client: &Client, to: &Reference) -> Result<()> {
        let repository = client.open_for_push(to)?;
        for blob in self.layers.iter().chain([&self.config]) {
            repository.push_blob(&descriptor("", blob), Content::Bytes(blob), None)?;
        }
        repository.push_manifest(&self.manifest, media_type::OCI_MANIFEST)?;
        Ok(())
    }

    /// How long the conversion takes where all layers are there.
    fn convert(&self, store: &Path) -> Result<Duration> {
        let store = Store::open(store)?;
        let start = Instant::now();
        store.convert(&self.config, &self.expected, &mut Here(&self.layers))?;
        Ok(start.elapsed())
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: kind.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        urls: None,
        annotations: None,
    }
}

struct Here<'a>(&'a [Vec<u8>]);

impl Layers for Here<'_> {
    fn open(&mut self, position: usize) -> std::io::Result<Box<dyn Read + Send + '_>> {
        let layer = self.0.get(position).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(&layer[..])))
    }
}

/// A layer and its diff-id.
fn layer(number: u32) -> Result<(Vec<u8>, Digest)> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for file in 0..MEGABYTES {
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(500_000)
        .collect();
        bytes.resize(1_000_000, b'x');
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("layer{number}/file{file}"), &bytes[..])?;
    }
    let tar = tar.into_inner()?;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&tar)?;
    let packed = packer.finish().context("Packing a layer")?;
    Ok((packed, Digest::of(&tar)))
}

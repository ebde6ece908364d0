//! What converting adds to a pull: over links as fast as the conversion and half as fast, on the machine's own clock.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use image::reference::Reference;
use image::registry::{Client, Downloads, Progress, Settings, Unwatched};
use image::{Descriptor, Digest, Expected, Layers, Manifest, Platform, Pull, Store, media_type};
use tests::bench::Target;

use crate::record::Record;

/// Layers of the image, and the megabytes of each: half of it repeats, as in programs and texts.
const LAYERS: u32 = 30;
/// See [`LAYERS`].
const MEGABYTES: u32 = 10;

/// Measures how much longer a pull takes than the slower of download and conversion.
pub(crate) fn measure(record: &mut Record) -> Result<()> {
    let place = tempfile::tempdir_in(tests::target())?;
    let client = client(place.path())?;
    let link = Link {
        bytes_per_second: f64::INFINITY,
        free: Instant::now(),
    };
    let server = Arc::new(Server {
        image: Image::new()?,
        link: Mutex::new(link),
    });
    let from: Reference = format!("{}/app:1", server.start()?).parse()?;
    let stores = place.path().join("stores");
    let conversion = shortest(&times(&stores, |place| server.image.convert(place))?);
    for (speed, words) in [(0.5, "half as fast as"), (1.0, "as fast as")] {
        server.pace(server.image.bytes() * speed / conversion);
        let download = shortest(&times(&stores, |place| download(&client, &from, place))?);
        let both = times(&stores, |place| {
            let pull = Pull {
                client: &client,
                policy: None,
                platform: Platform::host(),
                progress: Arc::new(Unwatched),
            };
            let start = Instant::now();
            Store::open(place)?.pull(&from, &pull)?;
            Ok(start.elapsed())
        })?;
        let slower = download.max(conversion);
        let added = |time: f64| (time / slower - 1.0) * 100.0;
        record.add(
            &format!("added to a download {words} the conversion"),
            "hull",
            "%",
            both.into_iter().map(added).collect(),
            Some(Target::AtMost(10.0)),
        );
    }
    Ok(())
}

/// Some times, in seconds, each in a new directory.
fn times(place: &Path, measured: impl Fn(&Path) -> Result<Duration>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..5 {
        std::fs::create_dir(place)?;
        times.push(measured(place)?.as_secs_f64());
        std::fs::remove_dir_all(place)?;
    }
    Ok(times)
}

/// What else runs on the machine only makes a time longer.
fn shortest(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// How long it takes to have the layers in files, unconverted.
fn download(client: &Client, from: &Reference, place: &Path) -> Result<Duration> {
    let start = Instant::now();
    let repository = Arc::new(client.open(from)?);
    let fetched = repository.manifest(&Platform::host())?;
    let progress: Arc<dyn Progress> = Arc::new(Unwatched);
    let file = |_: &_| tempfile::tempfile_in(place);
    Downloads::start(&repository, &fetched.manifest.layers, &progress, file)?.wait()?;
    Ok(start.elapsed())
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

/// A registry that has the image in memory and costs little beside the pull: as if it were another machine.
struct Server {
    image: Image,
    link: Mutex<Link>,
}

/// What all connections share.
struct Link {
    bytes_per_second: f64,
    /// When it is free again.
    free: Instant,
}

impl Server {
    /// Serves any number of connections. Returns the address.
    fn start(self: &Arc<Self>) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let server = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = server.clone();
                // A client that goes away is no fault.
                std::thread::spawn(move || server.serve(client).ok());
            }
        });
        Ok(address)
    }

    /// The link has this bandwidth from now on.
    fn pace(&self, bytes_per_second: f64) {
        *self.link() = Link {
            bytes_per_second,
            free: Instant::now(),
        };
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let (kind, body) = self.image.answer(&head);
            let range = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": bytes=")?;
                let (first, last) = value.split_once('-')?;
                let first: usize = first.parse().ok()?;
                let end = last.parse().map_or(body.len(), |last: usize| last + 1);
                name.eq_ignore_ascii_case("range").then_some(first..end)
            });
            let whole = body.len();
            let (status, body) = match range.and_then(|range| Some((range.start, body.get(range)?)))
            {
                Some((start, part)) => (
                    format!(
                        "206 Partial Content\r\nContent-Range: bytes {start}-{}/{whole}",
                        start + part.len() - 1
                    ),
                    part,
                ),
                None if kind.is_empty() => ("404 Not Found".to_owned(), body),
                None => ("200 OK".to_owned(), body),
            };
            let digest = match kind == media_type::OCI_MANIFEST {
                true => format!("Docker-Content-Digest: {}\r\n", Digest::of(body)),
                false => String::new(),
            };
            let length = body.len();
            write!(
                client,
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{digest}\r\n"
            )?;
            if head.starts_with("HEAD") {
                continue;
            }
            for piece in body.chunks(64 << 10) {
                let until = {
                    let mut link = self.link();
                    let time = piece.len() as f64 / link.bytes_per_second;
                    link.free = link.free.max(Instant::now()) + Duration::from_secs_f64(time);
                    link.free
                };
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                client.write_all(piece)?;
            }
        }
    }
}

struct Image {
    config: Vec<u8>,
    manifest: Vec<u8>,
    expected: Vec<Expected>,
    /// The layers, and the configuration after them, by digest.
    blobs: Vec<(String, Vec<u8>)>,
}

impl Image {
    fn new() -> Result<Self> {
        let (mut expected, mut blobs, mut layers) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..LAYERS {
            let (packed, diff_id) = layer(number)?;
            let described = Descriptor::of(media_type::OCI_LAYER_GZIP, &packed);
            expected.push(Expected {
                digest: Some(described.digest),
                size: described.size,
                diff_id,
            });
            blobs.push((described.digest.to_string(), packed));
            layers.push(described);
        }
        let diff_ids: Vec<_> = expected.iter().map(|layer| layer.diff_id).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers,
            annotations: None,
        };
        blobs.push((Digest::of(&config).to_string(), config.clone()));
        Ok(Self {
            manifest: serde_json::to_vec(&manifest)?,
            config,
            expected,
            blobs,
        })
    }

    /// Of all layers.
    fn bytes(&self) -> f64 {
        self.expected.iter().map(|layer| layer.size as f64).sum()
    }

    /// The media type and the bytes of what the head of a request asks for (distribution-spec, "Endpoints"); neither where
    /// there is no such thing.
    fn answer(&self, head: &str) -> (&'static str, &[u8]) {
        let target = head.split(' ').nth(1).unwrap_or_default();
        if target == "/v2/" {
            return ("application/json", b"{}");
        }
        if target.contains("/manifests/") {
            return (media_type::OCI_MANIFEST, &self.manifest);
        }
        let named = |(digest, _): &&(String, Vec<u8>)| target.ends_with(digest.as_str());
        match self.blobs.iter().find(named) {
            Some((_, blob)) => ("application/octet-stream", blob),
            None => ("", b""),
        }
    }

    /// How long the conversion takes where all layers are there.
    fn convert(&self, store: &Path) -> Result<Duration> {
        let store = Store::open(store)?;
        let start = Instant::now();
        store.convert(&self.config, &self.expected, &mut Here(&self.blobs))?;
        Ok(start.elapsed())
    }
}

struct Here<'a>(&'a [(String, Vec<u8>)]);

impl Layers for Here<'_> {
    fn open(&mut self, position: usize) -> std::io::Result<Box<dyn Read + Send + '_>> {
        let (_, layer) = self.0.get(position).ok_or(std::io::ErrorKind::NotFound)?;
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

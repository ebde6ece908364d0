//! `speed [MEGABYTES] [DIRECTORY]`: converts a generated layer, plain, gzip and zstd, and prints
//! uncompressed megabytes per second: digests, parsing, writing and fsync included.
//!
//! The layer is half programs (1 MiB), half small files (4 KiB on average), and packs to two fifths.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

use image::{Digest, Hasher};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let megabytes: u64 = arguments.next().as_deref().unwrap_or("512").parse()?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let work = tempfile::Builder::new()
        .prefix("speed")
        .tempdir_in(parent)?;
    let layer = work.path().join("layer.tar");
    generate(&layer, megabytes << 20)?;
    let plain = std::fs::metadata(&layer)?.len();
    let (diff_id, _) = digest(&layer)?;
    println!("layer: {} MB", plain / 1_000_000);
    for kind in ["tar", "tar+gzip", "tar+zstd"] {
        let packed = work.path().join("packed");
        pack(&layer, &packed, kind)?;
        let layout = work.path().join("layout");
        let source = lay_out(&layout, &packed, kind, diff_id)?;
        let store = work.path().join("store");
        let (start, before) = (Instant::now(), processor()?);
        let image = image::Store::open(&store)?.get(&source)?;
        let (seconds, busy) = (start.elapsed().as_secs_f64(), processor()? - before);
        let speed = |seconds: f64| plain as f64 / 1e6 / seconds;
        println!(
            "{kind:9} {seconds:5.2} s {:5.0} MB/s; processor {busy:5.2} s {:5.0} MB/s; image {} MB",
            speed(seconds),
            speed(busy),
            image.bytes / 1_000_000
        );
        std::fs::remove_dir_all(&store)?;
        std::fs::remove_dir_all(&layout)?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .filter(|line| line.starts_with("VmHWM"))
        .for_each(|line| println!("{line}"));
    Ok(())
}

/// Processor seconds of this process, all threads together: what other programs do matters less.
fn processor() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/stat")?;
    let fields = status
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2);
    let ticks: u64 = fields.map(|field| field.parse().unwrap_or(0)).sum();
    Ok(ticks as f64 / 100.0)
}

/// Words in an order that repeats late: packs about as programs and texts do.
struct Words(u64);

impl Read for Words {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let word = (self.0 % 2000)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(buffer.len())
    }
}

fn generate(path: &Path, bytes: u64) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
    let mut words = Words(88_172_645_463_325_252);
    let mut add = |name: String, size: u64| -> Result<u64> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000 + size % 1000);
        archive.append_data(&mut header, name, (&mut words).take(size))?;
        Ok(size)
    };
    let (mut large, mut small) = (0, 0);
    for number in 0.. {
        if large + small >= bytes {
            break;
        }
        if large <= small {
            large += add(format!("usr/bin/program{number}"), 1 << 20)?;
        } else {
            let size = 1 + number * 2_654_435_761 % 8192;
            small += add(
                format!("usr/share/texts/{}/text{number}", number % 500),
                size,
            )?;
        }
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn pack(layer: &Path, packed: &Path, kind: &str) -> Result<()> {
    let (mut from, mut to) = (File::open(layer)?, File::create(packed)?);
    match kind {
        "tar+gzip" => {
            let mut packer = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            std::io::copy(&mut from, &mut packer)?;
            packer.finish()?;
        }
        "tar+zstd" => zstd::stream::copy_encode(from, to, 3)?,
        _ => drop(std::io::copy(&mut from, &mut to)?),
    }
    Ok(())
}

fn digest(path: &Path) -> Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer, mut length) = (Hasher::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), length)),
            count => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

/// Makes an OCI layout of one layer.
fn lay_out(
    layout: &Path,
    packed: &Path,
    kind: &str,
    diff_id: Digest,
) -> Result<image::reference::Source> {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let put = |bytes: String| -> Result<(Digest, usize)> {
        let digest = Digest::of(bytes.as_bytes());
        std::fs::write(blobs.join(digest.hex()), &bytes)?;
        Ok((digest, bytes.len()))
    };
    let (layer, size) = digest(packed)?;
    std::fs::rename(packed, blobs.join(layer.hex()))?;
    let (config, length) = put(format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    ))?;
    let oci = "application/vnd.oci.image";
    let (manifest, bytes) = put(format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{oci}.config.v1+json","digest":"{config}","size":{length}}},
        "layers":[{{"mediaType":"{oci}.layer.v1.{kind}","digest":"{layer}","size":{size}}}]}}"#
    ))?;
    std::fs::write(
        layout.join("index.json"),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}.manifest.v1+json","digest":"{manifest}","size":{bytes}}}]}}"#
        ),
    )?;
    Ok(image::reference::Source::Oci {
        path: layout.to_owned(),
        tag: None,
    })
}

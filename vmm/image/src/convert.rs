//! From the layers of an image to one EROFS file: every digest checked, every bound held. Knows no
//! store; whoever calls decides when the file becomes visible.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Builder, ScopedJoinHandle};

use crate::erofs::{self, DataWriter, Finished};
use crate::layer::{self, LayerError};
use crate::stream::{self, Expected, Found, StreamError};
use crate::tree::Tree;
use crate::{Digest, Hasher, Limits, WriteError};

/// Where a conversion gets the layers of an image from.
pub trait Layers {
    /// The packed bytes of layer `position`, counted from the oldest. Called once for each, in order,
    /// when the one before has been read to its end. A reader may block while a transfer goes on, and
    /// fails when that fails.
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// Why an image cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The layer's bytes cannot be had.
    #[error("Layer {number} cannot be opened")]
    Open {
        /// Which layer, from 1.
        number: usize,
        /// Why.
        source: io::Error,
    },
    /// The layer is broken, hostile, or not the one announced.
    #[error("Layer {number} ({diff_id}) is refused")]
    Layer {
        /// Which layer, from 1.
        number: usize,
        /// Its diff-id.
        diff_id: Digest,
        /// Why.
        source: Box<LayerError>,
    },
    /// The metadata cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file cannot be made durable.
    #[error("The image file cannot be written")]
    Sync(#[source] io::Error),
}

/// Digest of a stack of layers (OCI image spec, "Layer ChainID"): what the file system depends on.
pub(crate) fn chain_id(diff_ids: &[Digest]) -> Digest {
    let mut diff_ids = diff_ids.iter();
    let first = diff_ids.next().copied().unwrap_or_else(|| Digest::of(b""));
    diff_ids.fold(first, |chain, diff_id| {
        Digest::of(format!("{chain} {diff_id}").as_bytes())
    })
}

/// A finished file system.
#[derive(Debug)]
pub(crate) struct Converted {
    /// What the layers turned out to be.
    pub(crate) layers: Vec<Found>,
    /// Length of the image.
    pub(crate) bytes: u64,
    /// Checksum of the image.
    pub(crate) checksum: u32,
}

/// Converts all layers into `file`, which is empty, and makes it durable.
pub(crate) fn convert(
    file: &File,
    layers: &[Expected],
    source: &mut dyn Layers,
    limits: &Limits,
) -> Result<Converted, ConvertError> {
    let (writeback, pieces) = sync_channel(1);
    let (written, early) = thread::scope(|scope| {
        // An error of the disk is told once for each open file: here, not at the end.
        let early = move || pieces.iter().try_for_each(|()| file.sync_data());
        // On a host that has no more threads, all is brought to the disk at the end.
        let early = Builder::new().spawn_scoped(scope, early);
        let written = write(file, layers, source, limits, writeback);
        (written, early.map_or(Ok(Ok(())), ScopedJoinHandle::join))
    });
    let (layers, Finished { bytes, checksum }) = written?;
    let broken = |_| ConvertError::Sync(io::ErrorKind::Other.into());
    early.map_err(broken)?.map_err(ConvertError::Sync)?;
    file.sync_data().map_err(ConvertError::Sync)?;
    Ok(Converted {
        layers,
        bytes,
        checksum,
    })
}

/// Writes the image; whoever listens to `writeback` brings it to the disk.
fn write(
    file: &File,
    layers: &[Expected],
    source: &mut dyn Layers,
    limits: &Limits,
    writeback: SyncSender<()>,
) -> Result<(Vec<Found>, Finished), ConvertError> {
    let mut tree = Tree::new(limits.clone());
    let mut data = DataWriter::new(file, limits.image).with_writeback(writeback);
    let mut found = Vec::with_capacity(layers.len());
    let mut allowance = limits.unpacked;
    for (position, expected) in layers.iter().enumerate() {
        let number = position + 1;
        let packed = source.open(position);
        let packed = packed.map_err(|source| ConvertError::Open { number, source })?;
        let layer = stream::unpack(packed, expected, limits, allowance, |input| {
            layer::apply(input, &mut tree, &mut data)
        });
        let layer = layer.map_err(|source| ConvertError::Layer {
            number,
            diff_id: expected.diff_id,
            source: Box::new(source),
        })?;
        allowance = allowance.saturating_sub(layer.unpacked);
        found.push(layer);
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    let finished = erofs::finish(data, &tree, uuid(&chain_id(&diff_ids)))?;
    Ok((found, finished))
}

/// CRC-32 of the first `length` bytes of a file. It tells what disks do to bytes, at a tenth of a
/// digest's time; whoever could forge it could write another one down as well.
pub(crate) fn checksum_of(file: &File, length: u64) -> io::Result<u32> {
    let mut sum = flate2::Crc::new();
    read_all(file, length, |piece| sum.update(piece))?;
    Ok(sum.sum())
}

/// Digest of the first `length` bytes of a file.
pub(crate) fn digest_of(file: &File, length: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    read_all(file, length, |piece| hasher.update(piece))?;
    Ok(hasher.finish())
}

fn read_all(file: &File, length: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut position = 0;
    while position < length {
        let most = usize::try_from(length - position)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let piece = buffer.get_mut(..most).unwrap_or_default();
        let count = std::os::unix::fs::FileExt::read_at(file, piece, position)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(piece.get(..count).unwrap_or_default());
        position += count as u64;
    }
    Ok(())
}

/// A UUID made of a digest (RFC 9562, version 8).
fn uuid(digest: &Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.iter_mut()
        .zip(digest.as_bytes())
        .for_each(|(to, from)| *to = *from);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

impl From<StreamError> for LayerError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

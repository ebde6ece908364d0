//! One layer on its way from its packed bytes to the tar reader: unpacked on a thread of its own,
//! hashed on both sides, bounded. Knows nothing of what is inside.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::tar::Input;
use crate::{Compression, Digest, Hasher, Limits};

/// Bytes handed over at once.
const PIECE: usize = 256 << 10;
/// Pieces that may wait between the threads.
const DEPTH: usize = 4;
/// Largest window of a zstd frame, as a power of two: its decoder's memory. The format's tools refuse
/// more by default too.
const ZSTD_WINDOW: u32 = 27;

/// Why a layer's bytes are refused.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Packed bytes beyond the announced size.
    #[error("The blob has more than the {0} bytes announced")]
    Longer(u64),
    /// Packed bytes missing.
    #[error("The blob has {found} bytes, {announced} were announced")]
    Shorter {
        /// What there is.
        found: u64,
        /// What was said.
        announced: u64,
    },
    /// The packed bytes are not those of the manifest.
    #[error("The blob's digest is {found}, not {expected}")]
    Digest {
        /// What was said.
        expected: Digest,
        /// What there is.
        found: Digest,
    },
    /// The tar inside is not the one of the configuration.
    #[error("The unpacked layer's digest (diff-id) is {found}, not {expected}")]
    DiffId {
        /// What was said.
        expected: Digest,
        /// What there is.
        found: Digest,
    },
    /// [`Limits::expansion`] or [`Limits::unpacked`].
    #[error("{packed} bytes unpack to more than {unpacked}: this looks like a decompression bomb")]
    Bomb {
        /// Packed bytes read so far.
        packed: u64,
        /// Bytes they have become.
        unpacked: u64,
    },
    /// No thread to be had, or a broken one.
    #[error("The unpacking thread cannot run")]
    Thread(#[source] io::Error),
}

/// What is known of a layer beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Digest of the packed bytes, where a manifest says it.
    pub digest: Option<Digest>,
    /// Their number.
    pub size: u64,
    /// Digest of the tar inside.
    pub diff_id: Digest,
}

/// What a layer turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Digest of the packed bytes.
    pub(crate) digest: Digest,
    pub(crate) compression: Compression,
    /// Bytes of the tar.
    pub(crate) unpacked: u64,
}

/// Unpacks `source`, lets `consume` read the tar, and checks sizes and digests of both. `allowance`
/// bounds the unpacked bytes.
pub(crate) fn unpack<E: From<StreamError>>(
    source: Box<dyn Read + Send + '_>,
    expected: &Expected,
    limits: &Limits,
    allowance: u64,
    consume: impl FnOnce(&mut Pieces) -> Result<(), E>,
) -> Result<Found, E> {
    let (found, diff_id, read) = run(source, expected.size, limits, allowance, consume)?;
    if read != expected.size {
        return Err(StreamError::Shorter {
            found: read,
            announced: expected.size,
        }
        .into());
    }
    if let Some(expected) = expected.digest.filter(|expected| *expected != found.digest) {
        return Err(StreamError::Digest {
            expected,
            found: found.digest,
        }
        .into());
    }
    if diff_id != expected.diff_id {
        return Err(StreamError::DiffId {
            expected: expected.diff_id,
            found: diff_id,
        }
        .into());
    }
    Ok(found)
}

/// Digest of what `source`, of `size` bytes, unpacks to.
pub(crate) fn measure(
    source: Box<dyn Read + Send + '_>,
    size: u64,
    limits: &Limits,
) -> io::Result<Digest> {
    let drain = |input: &mut Pieces| io::copy(input, &mut io::sink()).map(drop);
    let (_, diff_id, _) = run(source, size, limits, limits.unpacked, drain)?;
    Ok(diff_id)
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::other(error)
    }
}

/// What a layer is, its diff-id, and how many packed bytes were read.
fn run<E: From<StreamError>>(
    source: Box<dyn Read + Send + '_>,
    size: u64,
    limits: &Limits,
    allowance: u64,
    consume: impl FnOnce(&mut Pieces) -> Result<(), E>,
) -> Result<(Found, Digest, u64), E> {
    let (full, pieces) = sync_channel(DEPTH);
    let (empty, recycled) = channel();
    let mut input = Pieces::new(pieces, empty);
    let (consumed, packed) = std::thread::scope(|scope| {
        let hasher = Some(Hasher::new());
        let packed = Packed {
            source,
            announced: size,
            read: 0,
            hasher,
        };
        let unpacking = std::thread::Builder::new()
            .name("unpack".into())
            .spawn_scoped(scope, move || {
                packed.unpack(&full, &recycled, limits, allowance)
            })
            .map_err(StreamError::Thread)?;
        let consumed = consume(&mut input);
        input.close();
        let packed = unpacking
            .join()
            .map_err(|_| StreamError::Thread(io::Error::other("it ended early")))?;
        Ok::<_, E>((consumed, packed))
    })?;
    consumed?;
    let (diff_id, unpacked) = input.finish();
    let (compression, read, digest) = packed;
    // Plain bytes are hashed once, on the reading side.
    let digest = digest.unwrap_or(diff_id);
    Ok((
        Found {
            digest,
            compression,
            unpacked,
        },
        diff_id,
        read,
    ))
}

/// The packed side.
struct Packed<'a> {
    source: Box<dyn Read + Send + 'a>,
    announced: u64,
    read: u64,
    /// None for plain bytes: those are hashed on the reading side.
    hasher: Option<Hasher>,
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.read += count as u64;
        if self.read > self.announced {
            return Err(io::Error::other(StreamError::Longer(self.announced)));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(count)
    }
}

/// How the unpacking side ended: what it was, packed bytes read, their digest unless it is the tar's.
type Ended = (Compression, u64, Option<Digest>);

impl Packed<'_> {
    fn unpack(
        self,
        full: &SyncSender<io::Result<Vec<u8>>>,
        recycled: &Receiver<Vec<u8>>,
        limits: &Limits,
        allowance: u64,
    ) -> Ended {
        let mut packed = BufReader::with_capacity(PIECE, self);
        let compression = match packed.fill_buf() {
            Ok(start) => Compression::sniff(start),
            Err(error) => {
                // The reading side may have gone; nobody wants to know then.
                let _ = full.send(Err(error));
                return (Compression::None, 0, None);
            }
        };
        let mut pump = Pump {
            full,
            recycled,
            limits,
            allowance,
            unpacked: 0,
        };
        let result = match compression {
            Compression::None => {
                packed.get_mut().hasher = None;
                pump.run(&mut packed, |packed| packed.get_ref().read)
            }
            Compression::Gzip => {
                let mut unpacker = flate2::bufread::MultiGzDecoder::new(&mut packed);
                pump.run(&mut unpacker, |unpacker| unpacker.get_ref().get_ref().read)
            }
            Compression::Zstd => {
                zstd::stream::read::Decoder::with_buffer(&mut packed).and_then(|mut unpacker| {
                    unpacker.window_log_max(ZSTD_WINDOW)?;
                    pump.run(&mut unpacker, |unpacker| unpacker.get_ref().get_ref().read)
                })
            }
        };
        if let Err(error) = result {
            let _ = full.send(Err(error));
        }
        let packed = packed.into_inner();
        (compression, packed.read, packed.hasher.map(Hasher::finish))
    }
}

/// Moves unpacked pieces to the reading side.
struct Pump<'a> {
    full: &'a SyncSender<io::Result<Vec<u8>>>,
    recycled: &'a Receiver<Vec<u8>>,
    limits: &'a Limits,
    allowance: u64,
    unpacked: u64,
}

impl Pump<'_> {
    fn run<R: Read>(&mut self, unpacker: &mut R, packed: impl Fn(&R) -> u64) -> io::Result<()> {
        loop {
            let mut piece = self.recycled.try_recv().unwrap_or_default();
            piece.resize(PIECE, 0);
            let mut length = 0;
            while let Some(rest) = piece.get_mut(length..).filter(|rest| !rest.is_empty()) {
                match unpacker.read(rest) {
                    Ok(0) => break,
                    Ok(count) => length += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if length == 0 {
                return Ok(());
            }
            piece.truncate(length);
            self.unpacked += length as u64;
            let packed = packed(unpacker);
            let most = packed
                .saturating_mul(self.limits.expansion)
                .saturating_add(self.limits.free_expansion)
                .min(self.allowance);
            if self.unpacked > most {
                return Err(io::Error::other(StreamError::Bomb {
                    packed,
                    unpacked: most,
                }));
            }
            if self.full.send(Ok(piece)).is_err() {
                // The reading side has seen enough.
                return Ok(());
            }
        }
    }
}

/// The unpacked side: what the tar reader reads.
pub(crate) struct Pieces {
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    taken: usize,
    hasher: Hasher,
    length: u64,
}

impl Pieces {
    fn new(full: Receiver<io::Result<Vec<u8>>>, empty: Sender<Vec<u8>>) -> Self {
        let full = Some(full);
        Self {
            full,
            empty,
            piece: Vec::new(),
            taken: 0,
            hasher: Hasher::new(),
            length: 0,
        }
    }

    /// Lets the unpacking side go.
    fn close(&mut self) {
        self.full = None;
    }

    fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.length)
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.piece.len()
            && let Some(full) = &self.full
            && let Ok(piece) = full.recv()
        {
            let piece = piece?;
            self.hasher.update(&piece);
            self.length += piece.len() as u64;
            let used = std::mem::replace(&mut self.piece, piece);
            self.taken = 0;
            // The unpacking side may have ended.
            let _ = self.empty.send(used);
        }
        Ok(self.piece.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.piece.len());
    }
}

impl Input for &mut Pieces {}

#[cfg(test)]
mod tests;

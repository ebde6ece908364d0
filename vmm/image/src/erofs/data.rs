//! The data blocks of an image, appended while they stream in. Holes of sparse files are kept as far
//! as the chunk size allows; zeros inside a chunk become holes of the image file where they are long.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::SyncSender;

use super::sums::Sums;
use super::{BLOCK, BLOCK_BITS, FileData, Finished, Place, Run, WriteError};
use crate::tar::Segment;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;
/// Bytes after which the disk is put to work.
const WRITEBACK: u64 = 32 << 20;
/// Most chunks of a sparse file: beyond that its chunks get larger. 1 MiB of map.
const MAX_CHUNKS: u64 = 1 << 18;
/// Largest file with holes, in bytes: what an image could hold.
const MAX_SPARSE: u64 = 1 << 44;

/// Appends file data to an image file.
pub(crate) struct DataWriter<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Where `buffer` goes.
    start: u64,
    limit: u64,
    current: Option<Current>,
    sums: Sums,
    /// Whom to tell that there is much to bring to the disk, and how much it was at the last time.
    writeback: Option<(SyncSender<()>, u64)>,
}

/// The file under way.
struct Current {
    size: u64,
    first_block: u32,
    /// Absent for a file without holes.
    sparse: Option<Sparse>,
}

struct Sparse {
    bits: u8,
    runs: Vec<Run>,
    segments: std::vec::IntoIter<Segment>,
    /// What is left of the segment under way.
    segment: Segment,
    /// End of the chunk under way within the file; 0 before the first.
    chunk_end: u64,
    /// How far the chunk under way has been written.
    written: u64,
}

impl<'a> DataWriter<'a> {
    /// Starts behind block 0 of an empty file.
    pub(crate) fn new(file: &'a File, limit: u64) -> Self {
        let limit = limit.min(u64::from(u32::MAX - 1) << BLOCK_BITS);
        let buffer = Vec::with_capacity(BUFFER);
        Self {
            file,
            buffer,
            start: BLOCK,
            limit,
            current: None,
            sums: Sums::default(),
            writeback: None,
        }
    }

    /// Tells `writeback` each time a good piece more has been written: the disk can work meanwhile.
    pub(crate) fn with_writeback(self, writeback: SyncSender<()>) -> Self {
        Self {
            writeback: Some((writeback, 0)),
            ..self
        }
    }

    /// Ends the image: all is written but block 0.
    pub(super) fn finish(mut self, first: &[u8], bytes: u64) -> Result<Finished, WriteError> {
        self.flush()?;
        self.file.write_all_at(first, 0)?;
        self.file.set_len(bytes)?;
        let checksum = self.sums.finish(self.file, bytes)?;
        Ok(Finished { bytes, checksum })
    }

    pub(super) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Number of the block at the present position, which is aligned.
    pub(super) fn block(&self) -> Result<u32, WriteError> {
        u32::try_from(self.position() >> BLOCK_BITS).map_err(|_| WriteError::TooLarge(self.limit))
    }

    /// Starts a file of `size` bytes; with `map`, only those pieces of it will be appended.
    pub(crate) fn begin(&mut self, size: u64, map: Option<Vec<Segment>>) -> Result<(), WriteError> {
        let holes = map.filter(|map| map.iter().map(|piece| piece.length).sum::<u64>() != size);
        if holes.is_none() && size > self.limit || size > MAX_SPARSE {
            return Err(WriteError::TooLarge(self.limit));
        }
        let sparse = holes.map(|map| {
            let mut bits = 0;
            while size.div_ceil(BLOCK << bits) > MAX_CHUNKS {
                bits += 1;
            }
            let segment = Segment {
                offset: 0,
                length: 0,
            };
            let segments = map.into_iter();
            Sparse {
                bits,
                runs: Vec::new(),
                segments,
                segment,
                chunk_end: 0,
                written: 0,
            }
        });
        self.current = Some(Current {
            size,
            first_block: self.block()?,
            sparse,
        });
        Ok(())
    }

    /// Appends stored data of the file under way, in order.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        match self.current.take() {
            Some(Current {
                size,
                first_block,
                sparse: Some(mut sparse),
            }) => {
                self.append_sparse(&mut sparse, size, bytes)?;
                self.current = Some(Current {
                    size,
                    first_block,
                    sparse: Some(sparse),
                });
                Ok(())
            }
            current => {
                self.current = current;
                self.push(bytes)
            }
        }
    }

    fn append_sparse(
        &mut self,
        sparse: &mut Sparse,
        size: u64,
        mut bytes: &[u8],
    ) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            if sparse.segment.length == 0 {
                match sparse.segments.next() {
                    Some(segment) => sparse.segment = segment,
                    // The map was checked against the stored length before.
                    None => return Ok(()),
                }
                continue;
            }
            let offset = sparse.segment.offset;
            if offset >= sparse.chunk_end {
                self.end_chunk(sparse)?;
                let chunk = offset / (BLOCK << sparse.bits);
                sparse.written = chunk * (BLOCK << sparse.bits);
                sparse.chunk_end = (sparse.written + (BLOCK << sparse.bits)).min(size);
                let block = self.block()?;
                match sparse.runs.last_mut() {
                    Some(run) if run.chunk + run.chunks == chunk => run.chunks += 1,
                    _ => sparse.runs.push(Run {
                        chunk,
                        chunks: 1,
                        block,
                    }),
                }
            }
            self.zeros(offset - sparse.written)?;
            let most = sparse.segment.length.min(sparse.chunk_end - offset);
            let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(most);
            self.push(now)?;
            sparse.segment.offset += most as u64;
            sparse.segment.length -= most as u64;
            sparse.written = sparse.segment.offset;
            bytes = later;
        }
        Ok(())
    }

    /// Fills the chunk under way up.
    fn end_chunk(&mut self, sparse: &mut Sparse) -> Result<(), WriteError> {
        self.zeros(sparse.chunk_end - sparse.written)?;
        sparse.written = sparse.chunk_end;
        self.align()
    }

    /// Ends the file under way.
    pub(crate) fn end(&mut self) -> Result<FileData, WriteError> {
        let Some(Current {
            size,
            first_block,
            sparse,
        }) = self.current.take()
        else {
            return Ok(FileData {
                size: 0,
                place: Place::Dense { block: 0 },
            });
        };
        let place = match sparse {
            Some(mut sparse) => {
                self.end_chunk(&mut sparse)?;
                Place::Chunked {
                    bits: sparse.bits,
                    runs: sparse.runs.into(),
                }
            }
            None if size == 0 => Place::Dense { block: 0 },
            None => Place::Dense { block: first_block },
        };
        self.align()?;
        Ok(FileData { size, place })
    }

    /// Zeros up to the next block.
    pub(super) fn align(&mut self) -> Result<(), WriteError> {
        self.zeros(self.position().wrapping_neg() % BLOCK)
    }

    /// `count` zeros: written when few, left out of the file when many.
    pub(super) fn zeros(&mut self, count: u64) -> Result<(), WriteError> {
        match usize::try_from(count) {
            Ok(count) if count <= BUFFER - self.buffer.len() => {
                self.buffer.resize(self.buffer.len() + count, 0);
            }
            _ => {
                self.flush()?;
                self.start = self
                    .start
                    .checked_add(count)
                    .ok_or(WriteError::TooLarge(self.limit))?;
            }
        }
        self.check()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER / 4 {
            self.flush()?;
            self.file.write_all_at(bytes, self.start)?;
            self.sums.add(self.start, bytes);
            self.start += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), WriteError> {
        if let Some((writeback, last)) = &mut self.writeback
            && self.start.saturating_sub(*last) >= WRITEBACK
        {
            *last = self.start;
            // When it is still at the last piece it will find this one too.
            let _ = writeback.try_send(());
        }
        match self.position() > self.limit {
            true => Err(WriteError::TooLarge(self.limit)),
            false => Ok(()),
        }
    }

    /// Writes what is gathered.
    pub(super) fn flush(&mut self) -> Result<(), WriteError> {
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, self.start)?;
            self.sums.add(self.start, &self.buffer);
            self.start += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Gives the blocks of a file that lost its last name back to the host. A file system that cannot
    /// do this keeps them: only space is lost.
    pub(crate) fn discard(&mut self, data: &FileData) -> Result<(), WriteError> {
        self.flush()?;
        let blocks: Vec<(u32, u64)> = match &data.place {
            Place::Dense { block } => vec![(*block, data.size)],
            Place::Chunked { bits, runs } => {
                let chunk = BLOCK << bits;
                let bytes = |run: &Run| {
                    let start = run.chunk * chunk;
                    (start + run.chunks * chunk).min(data.size.next_multiple_of(BLOCK)) - start
                };
                runs.iter().map(|run| (run.block, bytes(run))).collect()
            }
        };
        for (block, bytes) in blocks.into_iter().filter(|(_, bytes)| *bytes > 0) {
            let flags =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            let start = u64::from(block) << BLOCK_BITS;
            let bytes = bytes.next_multiple_of(BLOCK);
            self.sums.forget(start, bytes);
            match rustix::fs::fallocate(self.file, flags, start, bytes) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(error) => return Err(WriteError::Write(error.into())),
            }
        }
        Ok(())
    }
}

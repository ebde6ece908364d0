//! The block device (virtio 1.2 §5.2) over a file. Refuses to know file systems, and to write a read-only image.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use crate::chain::{Chain, Reader, Writer};
use crate::device::{Io, Served, VirtioDevice};
use crate::{DeviceError, StateError};

/// Unit of all addresses, whatever the medium.
const SECTOR: u64 = 512;
/// Bytes of a serial number.
const SERIAL: usize = 20;
const QUEUE: u16 = 128;
/// Data segments of a request: a full queue less header and status. 126 pages are almost four times Linux's read-ahead.
const SEGMENTS: u32 = QUEUE as u32 - 2;
/// Longest request served, in bytes. Linux asks for 1.25 MiB at most unless told otherwise.
const LONGEST_REQUEST: usize = 64 << 20;
/// Most ranges of one discard request.
const DISCARD_RANGES: u32 = 64;

/// `VIRTIO_BLK_F_SEG_MAX`: the configuration says how many segments a request may have.
const SEG_MAX: u64 = 1 << 2;
/// `VIRTIO_BLK_F_RO`
const RO: u64 = 1 << 5;
/// `VIRTIO_BLK_F_FLUSH`
const FLUSH: u64 = 1 << 9;
/// `VIRTIO_BLK_F_DISCARD`
const DISCARD: u64 = 1 << 13;

/// Types of request (virtio 1.2 §5.2.6).
mod request {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
}

/// Whether a guest may change the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads only; anything else fails in the device, whatever the guest's driver believes.
    ReadOnly,
    /// Reads, writes, and discards where the file's file system can punch holes.
    Writable,
}

/// A medium that cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The length is no whole number of sectors.
    #[error("Medium of {0} bytes does not end at a multiple of 512")]
    Length(u64),
    /// The file cannot be examined.
    #[error("Medium cannot be examined")]
    File(#[from] io::Error),
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    file: File,
    access: Access,
    discards: bool,
    /// Length of the medium in sectors, fixed for the device's life.
    sectors: u64,
    serial: [u8; SERIAL],
}

/// What a snapshot says of a disk: the guest has cached its size.
#[derive(Debug, Serialize, Deserialize)]
pub struct BlockState {
    sectors: u64,
}

/// A request the device turns down; the guest sees the status and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Failed = 1,
    Unsupported = 2,
}

impl Block {
    /// Offers `file` as a disk. `serial` is what the guest reads in `/sys/block/vd?/serial`; its first 20 bytes count.
    ///
    /// # Errors
    /// [`MediumError`] if the file is no whole number of sectors long.
    pub fn new(file: File, access: Access, serial: &str) -> Result<Self, MediumError> {
        let length = file.metadata()?.len();
        if !length.is_multiple_of(SECTOR) {
            return Err(MediumError::Length(length));
        }
        // Punching a hole beyond the end changes nothing, but shows whether it can be done.
        let discards = access == Access::Writable && fallocate(&file, HOLE, length, SECTOR).is_ok();
        let mut id = [0; SERIAL];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        Ok(Self {
            file,
            access,
            discards,
            sectors: length.checked_div(SECTOR).unwrap_or(0),
            serial: id,
        })
    }

    fn request(&self, chain: &mut Chain<'_>) -> Result<Served, DeviceError> {
        let header = chain.readable.read_array::<16>()?;
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        // The last byte is for the status.
        let room = (chain.writable.left().checked_sub(1)).ok_or(DeviceError::RequestTooShort)?;
        let result = match u32::from_le_bytes([t0, t1, t2, t3]) {
            request::IN => self.read(&mut chain.writable, sector, room),
            request::OUT => self.write(&mut chain.readable, sector),
            request::FLUSH if self.access == Access::Writable => self.flush(),
            request::GET_ID => {
                let serial = self.serial.get(..room).unwrap_or(&self.serial);
                chain.writable.write(serial);
                Ok(())
            }
            request::DISCARD if self.discards => self.discard(&mut chain.readable),
            _ => Err(Refusal::Unsupported),
        };
        let status = result.map_or_else(|refusal| refusal as u8, |()| 0);
        let rest = chain.writable.left().saturating_sub(1);
        chain.writable.skip(rest);
        chain.writable.write_all(&[status])?;
        // What is said to be written must be, from the start: not so if something was left out before the status.
        let written = if rest == 0 {
            room.saturating_add(1)
        } else {
            room.saturating_sub(rest)
        };
        Ok(Served::Done(written))
    }

    fn read(&self, to: &mut Writer<'_>, sector: u64, length: usize) -> Result<(), Refusal> {
        let mut offset = self.range(sector, length)?;
        let mut left = length;
        while left != 0 {
            let done = to.read_at(self.file.as_fd(), offset, left);
            (offset, left) = advance(done, offset, left)?;
        }
        Ok(())
    }

    fn write(&self, from: &mut Reader<'_>, sector: u64) -> Result<(), Refusal> {
        if self.access != Access::Writable {
            return Err(Refusal::Failed);
        }
        let mut left = from.left();
        let mut offset = self.range(sector, left)?;
        while left != 0 {
            let done = from.write_at(self.file.as_fd(), offset, left);
            (offset, left) = advance(done, offset, left)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Refusal> {
        self.file.sync_data().map_err(|_| Refusal::Failed)
    }

    fn discard(&self, ranges: &mut Reader<'_>) -> Result<(), Refusal> {
        let mut left = DISCARD_RANGES;
        while ranges.left() != 0 {
            left = left.checked_sub(1).ok_or(Refusal::Failed)?;
            let range = ranges.read_array::<16>().map_err(|_| Refusal::Failed)?;
            let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = range;
            if flags != [0; 4] {
                return Err(Refusal::Unsupported);
            }
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let sectors = u64::from(u32::from_le_bytes([n0, n1, n2, n3]));
            let offset = self.offset(sector, sectors)?;
            let length = sectors.saturating_mul(SECTOR);
            if length != 0 {
                fallocate(&self.file, HOLE, offset, length).map_err(|_| Refusal::Failed)?;
            }
        }
        Ok(())
    }

    /// Where in the file `length` bytes from `sector` on begin, if the medium has them and they are sectors.
    fn range(&self, sector: u64, length: usize) -> Result<u64, Refusal> {
        let bytes = u64::try_from(length).map_err(|_| Refusal::Failed)?;
        if length > LONGEST_REQUEST || !bytes.is_multiple_of(SECTOR) {
            return Err(Refusal::Failed);
        }
        self.offset(sector, bytes.checked_div(SECTOR).unwrap_or(0))
    }

    fn offset(&self, sector: u64, sectors: u64) -> Result<u64, Refusal> {
        (sector.checked_add(sectors))
            .filter(|&end| end <= self.sectors)
            .and_then(|_| sector.checked_mul(SECTOR))
            .ok_or(Refusal::Failed)
    }
}

const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// One transfer further; nothing transferred means that the file has become shorter than it was.
fn advance(done: io::Result<usize>, offset: u64, left: usize) -> Result<(u64, usize), Refusal> {
    let done = done.ok().filter(|&done| done != 0).ok_or(Refusal::Failed)?;
    let bytes = u64::try_from(done).map_err(|_| Refusal::Failed)?;
    Ok((offset.saturating_add(bytes), left.saturating_sub(done)))
}

impl VirtioDevice for Block {
    const ID: u32 = 2;
    const NAME: &'static str = "block";
    const KERNEL: &'static str = "CONFIG_VIRTIO_BLK";
    const QUEUES: &'static [u16] = &[QUEUE];
    type State = BlockState;

    /// No more than needed: a driver reads a field of the configuration for almost every feature, one exit or two each.
    fn features(&self) -> u64 {
        let writes = match self.access {
            Access::ReadOnly => RO,
            Access::Writable => FLUSH,
        };
        let discards = if self.discards { DISCARD } else { 0 };
        SEG_MAX | writes | discards
    }

    fn config(&self) -> impl AsRef<[u8]> {
        let mut config = [0; 48];
        let fields: [(usize, &[u8]); 5] = [
            (0, &self.sectors.to_le_bytes()),
            (12, &SEGMENTS.to_le_bytes()),
            // max_discard_sectors, max_discard_seg, discard_sector_alignment
            (36, &u32::MAX.to_le_bytes()),
            (40, &DISCARD_RANGES.to_le_bytes()),
            (44, &8_u32.to_le_bytes()),
        ];
        for (offset, bytes) in fields {
            for (to, from) in config.iter_mut().skip(offset).zip(bytes) {
                *to = *from;
            }
        }
        config
    }

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        io.serve(queue, |chain| self.request(chain))
    }

    fn save(&self) -> BlockState {
        BlockState {
            sectors: self.sectors,
        }
    }

    fn restore(&mut self, state: BlockState) -> Result<(), StateError> {
        match state.sectors == self.sectors {
            true => Ok(()),
            false => Err(StateError::Impossible("capacity")),
        }
    }
}

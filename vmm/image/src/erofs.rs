//! Writes EROFS images: the kernel's read-only file system (Documentation/filesystems/erofs.rst,
//! fs/erofs/erofs_fs.h). Uncompressed, 4 KiB blocks, same bytes for the same tree.
//!
//! ```text
//! block 0    superblock at byte 1024; the root directory and what else fits behind it
//! 1 …        file data in the order of arrival, each file contiguous
//! … end      blocks of large directories, then inodes: directories first, breadth first
//! ```
//! Mounting and the first look-ups thus read block 0 and one or two blocks of directories. Data is
//! written while it streams; everything else is known only at the end and needs no second pass.
//!
//! Knows no tar and no layers.

mod data;
mod encode;
mod layout;
mod metadata;
mod sums;

use std::io;

pub(crate) use data::DataWriter;
pub(crate) use encode::xattr_name;
pub(crate) use metadata::finish;

/// Length of a block, in bytes.
pub(crate) const BLOCK: u64 = 4096;
/// The same as a length in memory.
const BLOCK_SIZE: usize = 4096;
const BLOCK_BITS: u8 = 12;
/// Inodes are named by their position in units of this, in bytes.
const SLOT: u64 = 32;

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, or broken.
    #[error("The image file cannot be written")]
    Write(#[from] io::Error),
    /// [`Limits::image`](crate::Limits::image), or 16 TiB: block numbers have 32 bits.
    #[error("The image would be larger than {0} bytes")]
    TooLarge(u64),
    /// More extended attributes on one file than EROFS can hold.
    #[error("The extended attributes of one file need {0} bytes, more than an image can hold")]
    Xattrs(u64),
    /// A device number beyond Linux' 12 and 20 bits.
    #[error("The device number {major}:{minor} does not exist in Linux")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// An image that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its length.
    pub(crate) bytes: u64,
    /// CRC-32 of all of it.
    pub(crate) checksum: u32,
}

/// Where a file's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileData {
    /// Length of the file in bytes.
    pub(crate) size: u64,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// All of it in consecutive blocks.
    Dense { block: u32 },
    /// In chunks of `1 << bits` blocks; what no run covers is a hole.
    Chunked { bits: u8, runs: Box<[Run]> },
}

/// Consecutive chunks in consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// First chunk within the file.
    chunk: u64,
    chunks: u64,
    block: u32,
}

impl FileData {
    /// Bytes the image's map of this file has.
    pub(crate) fn map_bytes(&self) -> u64 {
        match &self.place {
            Place::Dense { .. } => 0,
            Place::Chunked { bits, .. } => 4 * self.size.div_ceil(BLOCK << bits),
        }
    }
}

#[cfg(test)]
mod tests;

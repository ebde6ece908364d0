//! A machine at rest as two files of a directory: `machine`, which says what it is, how its processors and devices
//! stand, and what of its memory a copy writes at once; and `memory`, as long as its memory is, with holes for zeros. Refuses to know where the directory is.
//!
//! Of `machine` nothing is believed that is not checked: what it is, its version, its length, its sum. What its processors
//! hold is then for KVM to judge, what its devices hold for each device; memory is a guest's, and as hostile as that.

use std::fs::File;
use std::io::Read;

use thiserror::Error;

pub(crate) mod archive;
pub(crate) mod draft;
pub(crate) mod named;
mod sums;

use sums::Sum;

/// The state of processors and devices.
pub(crate) const MACHINE: &str = "machine";
/// The content of memory.
pub(crate) const MEMORY: &str = "memory";

/// The container whose machine it is, where it is one's.
pub(crate) const CONTAINER: &str = "container";
/// The disk that keeps what it writes, if it has one.
pub(crate) const DISK: &str = "disk";

const MAGIC: [u8; 8] = *b"hullrest";
/// Counted up whenever anything that is saved changes its form.
pub(crate) const VERSION: u32 = 3;
/// Magic, version, lengths of the description, the pages, the state; sum of all three.
const HEADER: usize = 8 + 4 + 4 + 4 + 8 + 8;
/// A machine of 16 processors with all devices takes a quarter of a megabyte.
const LONGEST: u64 = 4 << 20;

/// Why a file is no saved machine that this hull can restore.
#[derive(Debug, Error)]
pub(crate) enum FormatError {
    /// It cannot be read.
    #[error("The saved machine cannot be read")]
    Read(#[from] std::io::Error),
    /// It is something else.
    #[error("The file holds no saved machine")]
    Foreign,
    /// Another hull wrote it.
    #[error("The machine was saved in version {0} of the format; this hull has version {VERSION}")]
    Version(u32),
    /// It was cut off, or something was added.
    #[error("The saved machine has {found} bytes, and says that it has {told}")]
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        told: u64,
    },
    /// Its bytes have changed.
    #[error("The saved machine is damaged: its sum is wrong")]
    Sum,
    /// The encoding inside.
    #[error("The saved machine is damaged")]
    Damaged(#[from] postcard::Error),
}

/// The parts of a `machine` file, its frame checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    /// What the launcher says of it.
    pub(crate) about: &'a [u8],
    /// Which pages a copy writes at once ([`Pages`](crate::machine::memory::Pages)); may be empty.
    pub(crate) pages: &'a [u8],
    /// What the VMM saved.
    pub(crate) state: &'a [u8],
}

/// The file that holds them.
pub(crate) fn encode(parts: &Parts<'_>) -> Vec<u8> {
    let Parts {
        about,
        pages,
        state,
    } = parts;
    let short = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER + about.len() + pages.len() + state.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(short(about));
    bytes.extend(short(pages));
    bytes.extend((state.len() as u64).to_le_bytes());
    bytes.extend(sum(&[about, pages, state]).to_le_bytes());
    for part in [about, pages, state] {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// All of a file, if it is not longer than any that is ours.
pub(crate) fn read(file: &File) -> Result<Vec<u8>, FormatError> {
    let length = file.metadata()?.len();
    if length > LONGEST {
        return Err(FormatError::Foreign);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Takes a file apart.
pub(crate) fn decode(bytes: &[u8]) -> Result<Parts<'_>, FormatError> {
    let mut rest = bytes;
    if take(&mut rest)? != MAGIC {
        return Err(FormatError::Foreign);
    }
    let version = u32::from_le_bytes(take(&mut rest)?);
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let short = |length| usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let (about, pages) = (short(take(&mut rest)?), short(take(&mut rest)?));
    let state = u64::from_le_bytes(take(&mut rest)?);
    let told_sum = u64::from_le_bytes(take(&mut rest)?);
    let found = bytes.len() as u64;
    let told = (about as u64 + pages as u64 + HEADER as u64).saturating_add(state);
    let parts = rest
        .split_at_checked(about)
        .and_then(|(about, rest)| Some((about, rest.split_at_checked(pages)?)));
    let parts = parts.filter(|_| found == told);
    let (about, (pages, state)) = parts.ok_or(FormatError::Length { found, told })?;
    match sum(&[about, pages, state]) == told_sum {
        true => Ok(Parts {
            about,
            pages,
            state,
        }),
        false => Err(FormatError::Sum),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FormatError> {
    let (first, others) = rest.split_first_chunk().ok_or(FormatError::Foreign)?;
    *rest = others;
    Ok(*first)
}

/// One sum of all three.
fn sum(parts: &[&[u8]]) -> u64 {
    let mut sum = Sum::default();
    parts.iter().for_each(|part| sum.bytes(part));
    sum.finish()
}

#[cfg(test)]
mod tests;

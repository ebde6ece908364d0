//! The few facts of a kernel's ELF file that a direct boot needs. Loads nothing.

use std::fs::File;
use std::io;

use thiserror::Error;

use super::read_at;
use crate::machine::layout;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Kernels have five; a file with hundreds is no kernel.
const MOST_PROGRAM_HEADERS: u16 = 64;
/// All notes of a kernel together are a few hundred bytes.
const MOST_NOTES: u64 = 64 << 10;

const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// XEN_ELFNOTE_PHYS32_ENTRY (Xen's public/elfnote.h).
const PVH_ENTRY: u32 = 18;

/// Why a file is not a kernel for this machine.
#[derive(Debug, Error)]
pub(crate) enum ElfError {
    /// Something else.
    #[error("It is not a 64-bit x86 ELF file (a bzImage must be unpacked; hull takes the vmlinux)")]
    NotElf,
    /// Ends too early.
    #[error("Its file is truncated")]
    Truncated,
    /// Numbers that cannot be.
    #[error("Its program headers are malformed")]
    Malformed,
    /// No entry point.
    #[error("It has no PVH entry point (its configuration lacks CONFIG_PVH)")]
    NoEntry,
    /// Reading failed.
    #[error("Reading it failed")]
    Read(#[source] io::Error),
}

/// A part of the file and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset in the file.
    pub(super) offset: u64,
    /// Guest-physical address, not below [`layout::HIGH_MEMORY`].
    pub(super) address: u64,
    /// Bytes in the file; what memory holds beyond them is zero already.
    pub(super) length: u64,
}

/// A kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Guest-physical address of the PVH entry point.
    pub(super) entry: u64,
    /// First byte behind the kernel's last segment.
    pub(super) end: u64,
    /// What to copy.
    pub(super) segments: Vec<Segment>,
}

/// Reads headers and notes.
pub(super) fn parse(file: &File) -> Result<Image, ElfError> {
    let mut header = [0; HEADER];
    read_at(file, &mut header, 0).map_err(|error| match error {
        ElfError::Truncated => ElfError::NotElf,
        other => other,
    })?;
    // ELF, 64-bit, little endian, current version; machine x86-64.
    if !header.starts_with(b"\x7fELF\x02\x01\x01") || half(&header, 18)? != 62 {
        return Err(ElfError::NotElf);
    }
    let (place, size, count) = (word(&header, 32)?, half(&header, 54)?, half(&header, 56)?);
    if usize::from(size) != PROGRAM_HEADER || !(1..=MOST_PROGRAM_HEADERS).contains(&count) {
        return Err(ElfError::Malformed);
    }
    let mut headers = vec![0; PROGRAM_HEADER * usize::from(count)];
    read_at(file, &mut headers, place)?;
    let mut image = Image {
        entry: 0,
        end: 0,
        segments: Vec::with_capacity(usize::from(count)),
    };
    for header in headers.chunks_exact(PROGRAM_HEADER) {
        let (offset, address, length, room) = (
            word(header, 8)?,
            word(header, 24)?,
            word(header, 32)?,
            word(header, 40)?,
        );
        match long(header, 0)? {
            LOAD => {
                let end = address.checked_add(room).ok_or(ElfError::Malformed)?;
                if length > room
                    || address < layout::HIGH_MEMORY
                    || offset.checked_add(length).is_none()
                {
                    return Err(ElfError::Malformed);
                }
                image.end = image.end.max(end);
                image.segments.push(Segment {
                    offset,
                    address,
                    length,
                });
            }
            NOTE if length <= MOST_NOTES => {
                let mut notes = vec![0; usize::try_from(length).map_err(|_| ElfError::Malformed)?];
                read_at(file, &mut notes, offset)?;
                image.entry = pvh_entry(&notes).unwrap_or(image.entry);
            }
            _ => {}
        }
    }
    if image.entry == 0 {
        Err(ElfError::NoEntry)
    } else {
        Ok(image)
    }
}

/// Finds the note that names the entry point. Names and values are padded to four bytes.
fn pvh_entry(mut notes: &[u8]) -> Option<u64> {
    loop {
        let padded = |size: u32| usize::try_from(size).ok()?.checked_next_multiple_of(4);
        let (name, value, kind) = (
            long(notes, 0).ok()?,
            long(notes, 4).ok()?,
            long(notes, 8).ok()?,
        );
        let value_at = padded(name)?.checked_add(12)?;
        if kind == PVH_ENTRY && notes.get(12..16) == Some(b"Xen\0") {
            return match value {
                4 => long(notes, value_at).ok().map(u64::from),
                8 => word(notes, value_at).ok(),
                _ => None,
            };
        }
        notes = notes.get(value_at.checked_add(padded(value)?)?..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    take(bytes, at).map(u16::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Result<u32, ElfError> {
    take(bytes, at).map(u32::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    take(bytes, at).map(u64::from_le_bytes)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(ElfError::Truncated)
}

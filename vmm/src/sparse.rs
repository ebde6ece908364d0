//! Files that are longer than what is in them.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::{Errno, pwrite};

use crate::sys::{LARGE_PAGE, PAGE};

/// What need not be written.
pub(crate) const ZEROS: [u8; PAGE] = [0; PAGE];

/// The next range of a file, from `at` on, that is not a hole.
pub(crate) fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let range = |data| Ok((data, seek(file, SeekFrom::Hole(data))?));
    data_from(file, at)?.map(range).transpose()
}

/// The next byte of a file, from `at` on, that is not in a hole.
fn data_from(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where a file has anything: ranges that begin and end at multiples of `unit`, the last perhaps beyond the file's end. Where units
/// are large each is asked for: to say where a hole begins, a tmpfs looks at every page up to there.
pub(crate) fn ranges(file: &File, unit: u64) -> io::Result<Vec<Range<u64>>> {
    let (mut ranges, mut at): (Vec<Range<u64>>, _) = (Vec::new(), 0);
    while let Some(data) = data_from(file, at)? {
        let start = data - data % unit;
        at = match unit < LARGE_PAGE as u64 {
            true => seek(file, SeekFrom::Hole(data))?.next_multiple_of(unit),
            false => start + unit,
        };
        match ranges.last_mut() {
            Some(last) if start <= last.end => last.end = at,
            _ => ranges.push(start..at),
        }
    }
    Ok(ranges)
}

/// Writes all pages of `content` that are not zero; neighbours leave together.
pub(crate) fn write_pages(file: &File, content: &[u8], mut offset: u64) -> io::Result<()> {
    let empty: Vec<bool> = content.chunks(PAGE).map(|page| page == ZEROS).collect();
    let mut rest = content;
    for run in empty.chunk_by(|one, next| one == next) {
        let (now, later) = rest.split_at(run.len() * PAGE);
        if run.first() == Some(&false) {
            write_at(file, now, offset)?;
        }
        (rest, offset) = (later, offset + now.len() as u64);
    }
    Ok(())
}

/// Writes all of `bytes`.
fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fills an empty file with what is in another one, which nobody writes meanwhile; where the file system can, both share it
/// until one is written.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    to.set_len(from.metadata()?.len())?;
    let mut at = 0;
    while let Some((data, hole)) = next_data(from, at)? {
        let (mut source, mut target) = (data, data);
        while source < hole {
            let length = usize::try_from(hole - source).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        at = hole;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

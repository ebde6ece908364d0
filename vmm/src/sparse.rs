//! Files that are longer than what is in them.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

/// The next range of a file, from `at` on, that is not a hole.
pub(crate) fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some((data, seek(file, SeekFrom::Hole(data))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
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

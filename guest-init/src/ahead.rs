//! The program of a container to come, read before its machine is saved: what is copied from it has the program in memory,
//! and all copies have it once. Reads files and executes nothing.

use alloc::ffi::CString;
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fs::{FileType, Mode, OFlags};

use crate::environment::DEFAULT_PATH;
use crate::program::Program;

/// Of a file longer than this the rest is read when it is needed.
const MOST: usize = 16 << 20;
/// Bytes read at a time.
const PIECE: usize = 64 << 10;
/// In the header of an ELF file: where the program headers begin, and how many there are of how many bytes.
const PROGRAM_HEADERS: usize = 32;
const HEADER_SIZE: usize = 54;
const HEADER_COUNT: usize = 56;
/// The type of a program header that names the interpreter, where that says where the name is, and how long.
const INTERPRETER: [u8; 4] = [3, 0, 0, 0];
const NAME: usize = 8;
const NAME_LENGTH: usize = 32;

/// Reads the file that `program` means, and its interpreter if it has one. What cannot be read is left.
pub fn read(program: &[u8], path: &[u8]) {
    let path = if path.is_empty() { DEFAULT_PATH } else { path };
    let program = Program::new(program, path);
    let interpreter = program.files().iter().find_map(|file| read_file(file));
    if let Some(file) = interpreter.as_deref().and_then(interpreter_of) {
        read_file(&file);
    }
}

/// Reads a file; gives its beginning.
fn read_file(path: &CStr) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let status = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut first = vec![0; PIECE];
    let length = rustix::io::read(&file, &mut first[..]).ok()?;
    first.truncate(length);
    let (mut piece, mut total) = (vec![0; PIECE], length);
    while total < MOST {
        match rustix::io::read(&file, &mut piece[..]) {
            Ok(0) | Err(_) => break,
            Ok(length) => total += length,
        }
    }
    Some(first)
}

/// The interpreter that a dynamic ELF program of 64 bits asks for.
fn interpreter_of(file: &[u8]) -> Option<CString> {
    if !file.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let short = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let place = |bytes: &[u8], at: usize| {
        let long = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        usize::try_from(long).ok()
    };
    let (size, count) = (short(HEADER_SIZE)?, short(HEADER_COUNT)?);
    let headers = file.get(place(file, PROGRAM_HEADERS)?..)?;
    let mut headers = headers
        .chunks_exact(usize::from(size).max(1))
        .take(count.into());
    let header = headers.find(|header| header.starts_with(&INTERPRETER))?;
    let name = file.get(place(header, NAME)?..)?;
    let name = name.get(..place(header, NAME_LENGTH)?)?;
    Some(CStr::from_bytes_until_nul(name).ok()?.into())
}

#[cfg(test)]
mod tests;

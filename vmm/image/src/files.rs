//! The files of an archive or of an image layout by name: opened where they lie, never unpacked.
//!
//! Names inside an archive are keys of a table here and no paths of the host. Knows no image formats.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tar::{Input, Kind, Reader, TarError};
use crate::tree::shown;

/// Most entries of an archive that holds an image: layers and documents, not files.
const MAX_MEMBERS: usize = 100_000;
/// Most links from one member to the next.
const MAX_LINKS: usize = 8;

/// Why a file of an archive or layout cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The archive or directory itself.
    #[error("{path} cannot be opened")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory or device where a file is needed.
    #[error("{0} is not a regular file")]
    NotFile(PathBuf),
    /// The archive is broken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// More than [`MAX_MEMBERS`] entries.
    #[error("The archive has more than {MAX_MEMBERS} entries")]
    TooMany,
    /// Not in there.
    #[error("There is no {0:?} in it")]
    Missing(String),
    /// Longer than its kind may be.
    #[error("{name:?} has {bytes} bytes, more than the {most} allowed")]
    TooLong {
        /// Which file.
        name: String,
        /// Its length.
        bytes: u64,
        /// The bound.
        most: usize,
    },
    /// It is there, but cannot be read.
    #[error("{name:?} cannot be read")]
    Read {
        /// Which file.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Files by name.
#[derive(Debug)]
pub(crate) enum Files {
    Archive {
        file: Arc<File>,
        members: HashMap<Vec<u8>, Member>,
    },
    Directory(PathBuf),
}

/// Where an archive has a file.
#[derive(Debug, Clone)]
pub(crate) enum Member {
    Data {
        offset: u64,
        length: u64,
    },
    /// Another name, already resolved against the archive's root.
    Link(Vec<u8>),
}

/// Opens a regular file without waiting for what is none.
pub(crate) fn open(path: &Path) -> Result<File, FilesError> {
    let error = |source| FilesError::Open {
        path: path.to_owned(),
        source,
    };
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(error)?;
    match file.metadata().map_err(error)?.is_file() {
        true => Ok(file),
        false => Err(FilesError::NotFile(path.to_owned())),
    }
}

impl Files {
    /// Reads the table of an archive: its headers only.
    pub(crate) fn archive(file: File) -> Result<Self, FilesError> {
        let file = Arc::new(file);
        let mut reader = Reader::new(Whole::new(&file)?);
        let mut members = HashMap::new();
        while let Some(entry) = reader.next()? {
            let member = match entry.kind {
                Kind::File { size, map: None } => Member::Data {
                    offset: reader.position(),
                    length: size,
                },
                Kind::HardLink(target) => Member::Link(resolve(b"", &target)),
                Kind::Symlink(target) => {
                    let end = entry
                        .path
                        .iter()
                        .rposition(|byte| *byte == b'/')
                        .unwrap_or(0);
                    Member::Link(resolve(entry.path.get(..end).unwrap_or_default(), &target))
                }
                _ => continue,
            };
            if members.len() >= MAX_MEMBERS {
                return Err(FilesError::TooMany);
            }
            members.insert(resolve(b"", &entry.path), member);
        }
        Ok(Self::Archive { file, members })
    }

    /// A file and its length.
    pub(crate) fn open(&self, name: &str) -> Result<Part, FilesError> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                let file = match open(&path) {
                    Err(FilesError::Open { source, .. })
                        if source.kind() == io::ErrorKind::NotFound && directory.is_dir() =>
                    {
                        return Err(FilesError::Missing(name.to_owned()));
                    }
                    file => file?,
                };
                let read = |source| FilesError::Read {
                    name: name.to_owned(),
                    source,
                };
                let end = file.metadata().map_err(read)?.len();
                Ok(Part {
                    file: Arc::new(file),
                    position: 0,
                    end,
                })
            }
            Self::Archive { file, members } => {
                let mut key = resolve(b"", name.as_bytes());
                for _ in 0..MAX_LINKS {
                    match members.get(&key) {
                        Some(Member::Link(target)) => key.clone_from(target),
                        Some(Member::Data { offset, length }) => {
                            let (file, position) = (file.clone(), *offset);
                            return Ok(Part {
                                file,
                                position,
                                end: offset.saturating_add(*length),
                            });
                        }
                        None => break,
                    }
                }
                Err(FilesError::Missing(shown(name.as_bytes())))
            }
        }
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// A whole file of at most `most` bytes.
    pub(crate) fn read(&self, name: &str, most: usize) -> Result<Vec<u8>, FilesError> {
        let mut part = self.open(name)?;
        let length = part.length();
        match usize::try_from(length) {
            Ok(length) if length <= most => {
                let mut bytes = Vec::with_capacity(length);
                let read = part.read_to_end(&mut bytes);
                read.map_err(|source| FilesError::Read {
                    name: shown(name.as_bytes()),
                    source,
                })?;
                Ok(bytes)
            }
            _ => Err(FilesError::TooLong {
                name: shown(name.as_bytes()),
                bytes: length,
                most,
            }),
        }
    }
}

/// `path` as seen from `base`, `.` and `..` worked in; `..` ends at the top.
fn resolve(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let base = if path.starts_with(b"/") { &[] } else { base };
    for part in base
        .split(|byte| *byte == b'/')
        .chain(path.split(|byte| *byte == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// All of a file, from its beginning.
pub(crate) fn whole(file: &File) -> io::Result<Part> {
    let end = file.metadata()?.len();
    Ok(Part {
        file: Arc::new(file.try_clone()?),
        position: 0,
        end,
    })
}

/// A stretch of a file, read without moving anybody's position.
#[derive(Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Part {
    pub(crate) fn length(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length())
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self
            .file
            .read_at(buffer.get_mut(..most).unwrap_or_default(), self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// A whole archive, passed over by seeking.
struct Whole<'a> {
    reader: BufReader<&'a File>,
    position: u64,
    length: u64,
}

impl<'a> Whole<'a> {
    fn new(file: &'a File) -> Result<Self, TarError> {
        let mut reader = BufReader::with_capacity(4096, file);
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self {
            reader,
            position: 0,
            length: file.metadata()?.len(),
        })
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        self.reader.consume(count);
    }
}

impl Input for Whole<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let end = self
            .position
            .checked_add(count)
            .filter(|end| *end <= self.length);
        self.position = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let count = i64::try_from(count).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        self.reader.seek_relative(count)
    }
}

#[cfg(test)]
mod tests;

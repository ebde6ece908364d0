//! From what the user named to an image of the store: what lies on this machine, converted if need be.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::{AddError, Image, Store, sources};
use crate::convert::ConvertError;
use crate::directory::{self, WalkError};
use crate::export::{self, ExportError};
use crate::files::{self, Files};
use crate::local::{self, Local, OpenError};
use crate::reference::Source;
use crate::{Compression, StoreError, StreamError};

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive or layout, or a document in it.
    #[error("{image} holds no image that can be used")]
    Open {
        /// What was asked for.
        image: String,
        /// Why.
        source: Box<OpenError>,
    },
    /// A layer.
    #[error("{image} cannot be converted")]
    Convert {
        /// What was asked for.
        image: String,
        /// Why.
        source: ConvertError,
    },
    /// A plain directory.
    #[error("{image} cannot be read")]
    Directory {
        /// What was asked for.
        image: String,
        /// Why.
        source: WalkError,
    },
    /// docker's or podman's image.
    #[error("{image} cannot be exported")]
    Export {
        /// What was asked for.
        image: String,
        /// Why.
        source: ExportError,
    },
    /// Not something that lies on this machine.
    #[error("{0} is not on this machine")]
    Remote(String),
}

impl GetError {
    pub(super) fn open(source: &dyn Display, error: OpenError) -> Self {
        Self::Open {
            image: source.to_string(),
            source: Box::new(error),
        }
    }

    pub(super) fn add(source: &dyn Display, error: AddError) -> Self {
        match error {
            AddError::Store(error) => Self::Store(error),
            AddError::Document(error) => Self::open(source, error.into()),
            AddError::Convert(error) => Self::Convert {
                image: source.to_string(),
                source: error,
            },
        }
    }
}

impl Store {
    /// The image that a local source holds: from the store if it is there, converted otherwise.
    /// Archives and layouts are looked at by `stat` first: an unchanged one is not even opened.
    ///
    /// # Errors
    /// When it is not local, broken, or cannot be written. The store is as before then.
    pub fn get(&self, source: &Source) -> Result<Image, GetError> {
        let looked_at = match source {
            Source::Registry(reference) => {
                let named = self.named(reference)?;
                return named.ok_or_else(|| GetError::Remote(source.to_string()));
            }
            Source::Stdin => {
                let mut local = self.open_stdin(source).and_then(|files| {
                    local::archive(files, None).map_err(|error| GetError::open(source, error))
                })?;
                return self.convert_local(source, &mut local);
            }
            Source::Directory(path) => return self.get_directory(source, path),
            Source::Oci { path, .. } => &path.join("index.json"),
            Source::DockerArchive { path, .. } | Source::OciArchive { path, .. } => path,
            Source::DockerDaemon(_) | Source::ContainersStorage(_) => {
                return self.get_exported(source);
            }
        };
        let open = |error| GetError::open(source, error);
        let file = files::open(looked_at).map_err(|error| open(error.into()))?;
        let seen = sources::Seen::file(source, looked_at, &file);
        if let Some(image) = seen.as_ref().and_then(|seen| self.remembered(seen)) {
            return Ok(image);
        }
        let mut local = self.open_file(source, file).map_err(open)?;
        let image = self.convert_local(source, &mut local)?;
        let again = files::open(looked_at).ok();
        let again = again.and_then(|file| sources::Seen::file(source, looked_at, &file));
        self.remember(seen.filter(|seen| again.as_ref() == Some(seen)), &image);
        Ok(image)
    }

    /// One image of an archive or layout.
    fn open_file(&self, source: &Source, file: File) -> Result<Local, OpenError> {
        match source {
            Source::Oci { path, tag } => {
                local::oci_layout(Files::Directory(path.clone()), tag.as_deref())
            }
            Source::OciArchive { tag, .. } => {
                local::oci_layout(self.open_archive(file)?, tag.as_deref())
            }
            Source::DockerArchive { name, .. } => {
                local::docker_archive(self.open_archive(file)?, name.as_deref())
            }
            _ => local::archive(self.open_archive(file)?, None),
        }
    }

    fn convert_local(&self, source: &Source, local: &mut Local) -> Result<Image, GetError> {
        let config = std::mem::take(&mut local.config_bytes);
        let layers = std::mem::take(&mut local.layers);
        let converted = self.convert(&config, &layers, local);
        converted.map_err(|error| GetError::add(source, error))
    }

    /// A directory as an image of one layer. It is walked twice: its digest names what the second
    /// walk writes, and a directory that changes in between is refused.
    fn get_directory(&self, source: &Source, path: &Path) -> Result<Image, GetError> {
        let wrong = |error| GetError::Directory {
            image: source.to_string(),
            source: error,
        };
        let fingerprint = directory::fingerprint(path).map_err(wrong)?;
        let seen = sources::Seen::directory(source, path, fingerprint);
        if let Some(image) = seen.as_ref().and_then(|seen| self.remembered(seen)) {
            return Ok(image);
        }
        let layer = directory::measure(path).map_err(wrong)?;
        let config = directory::config(&layer.diff_id);
        let mut layers = directory::Layer(path);
        let image = self.convert(config.as_bytes(), &[layer], &mut layers);
        let image = image.map_err(|error| GetError::add(source, error))?;
        let again = directory::fingerprint(path).ok();
        self.remember(seen.filter(|_| again == Some(fingerprint)), &image);
        Ok(image)
    }

    /// An image of the local docker or podman.
    fn get_exported(&self, source: &Source) -> Result<Image, GetError> {
        let wrong = |error| GetError::Export {
            image: source.to_string(),
            source: error,
        };
        if let Some(id) = export::id(source).map_err(wrong)?
            && let Some(image) = self.find(&id)?
        {
            return Ok(image);
        }
        let temporary = self.directory.create()?;
        export::export(source, temporary.file()).map_err(wrong)?;
        let open = |error| GetError::open(source, error);
        let file = temporary.file().try_clone();
        let file = file.map_err(|error| open(OpenError::Unpack(error)))?;
        let files = self.open_archive(file).map_err(open)?;
        let mut local = local::docker_archive(files, None).map_err(open)?;
        self.convert_local(source, &mut local)
    }

    /// The archive on standard input, in a file without a name.
    pub(super) fn open_stdin(&self, source: &Source) -> Result<Files, GetError> {
        let unpack = |error| GetError::open(source, OpenError::Unpack(error));
        let file = self
            .spool(&mut io::stdin().lock(), u64::MAX)
            .map_err(unpack)?;
        self.open_archive(file)
            .map_err(|error| GetError::open(source, error))
    }

    /// An archive that can be read at any place: a packed one is unpacked into a file without a name.
    pub(super) fn open_archive(&self, mut file: File) -> Result<Files, OpenError> {
        let mut start = [0; 4];
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut start, 0);
        let count = read.map_err(OpenError::Unpack)?;
        let compression = Compression::sniff(start.get(..count).unwrap_or_default());
        let packed = file.metadata().map_err(OpenError::Unpack)?.len();
        let limit = packed
            .saturating_mul(self.limits.expansion)
            .saturating_add(self.limits.free_expansion)
            .min(self.limits.unpacked);
        file.rewind().map_err(OpenError::Unpack)?;
        let unpacked = match compression {
            Compression::None => return Ok(Files::archive(file)?),
            Compression::Gzip => {
                let file = io::BufReader::new(file);
                self.spool(&mut flate2::bufread::MultiGzDecoder::new(file), limit)
            }
            Compression::Zstd => zstd::stream::read::Decoder::new(file)
                .and_then(|mut unpacker| self.spool(&mut unpacker, limit)),
        };
        let unpacked = unpacked.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => OpenError::Unpack(io::Error::other(StreamError::Bomb {
                packed,
                unpacked: limit,
            })),
            _ => OpenError::Unpack(error),
        })?;
        Ok(Files::archive(unpacked)?)
    }

    /// Copies at most `limit` bytes into a file without a name; long zeros, of a bomb above all, take no place on the disk.
    fn spool(&self, from: &mut dyn Read, limit: u64) -> io::Result<File> {
        let temporary = self.directory.create().map_err(io::Error::other)?;
        let file = File::from(temporary.file().as_fd().try_clone_to_owned()?);
        temporary.remove();
        let mut buffer = vec![0; 256 << 10];
        let mut length = 0_u64;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => {
                    file.set_len(length)?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            length += count as u64;
            if length > limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let piece = buffer.get(..count).unwrap_or_default();
            if piece.iter().all(|byte| *byte == 0) {
                (&file).seek(io::SeekFrom::Current(
                    i64::try_from(count).unwrap_or_default(),
                ))?;
            } else {
                (&file).write_all(piece)?;
            }
        }
    }
}

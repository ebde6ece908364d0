//! A snapshot as one stream, for another store or host: a tar of its files, whose holes are not in it. The image is not either;
//! the container says which it is.
//!
//! Who reads one takes it for hostile: files come in one order, none is longer than `container` says, no name of the stream is a
//! path, what of a configuration belongs to a host is not taken over, and nothing is visible before all sums were right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use image::archive::{self, Entry, Kind, MAX_SEGMENTS, Reader, Segment, Time};
use image::{Digest, TarError};

use super::draft::{self, Draft};
use super::named::{self, About, Snapshot, SnapshotError, Snapshots};
use super::{CONTAINER, DISK, LONGEST, MACHINE, MEMORY};
use crate::config::Root;
use crate::container::{Config, storage};
use crate::entries::tar::{self, Buffered};
use crate::sparse;
use crate::sys::PAGE;

/// Bytes passed on at a time.
const BATCH: usize = 256 * PAGE;
/// Unit of a tar's blocks.
const BLOCK: usize = 512;

/// Why a stream is written or read in vain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("The stream is no snapshot, or was damaged or cut off")]
    Tar(#[from] TarError),
    #[error("The stream is packed by {0}, which is to be undone first")]
    Packed(&'static str),
    #[error("The stream is no snapshot: there is no {0} where it belongs")]
    Foreign(&'static str),
    #[error("The stream's {what} has {found} bytes, not the {told} of the snapshot's machine")]
    Length {
        what: &'static str,
        found: u64,
        told: u64,
    },
    #[error("The container of snapshot {name} has {what}, with which none goes to another host")]
    Bound { name: String, what: &'static str },
    #[error("Copying the snapshot's {what} failed")]
    Copy {
        what: &'static str,
        source: io::Error,
    },
}

/// Writes all of a snapshot, which is whole.
pub(crate) fn write(snapshot: &Snapshot, out: &mut dyn Write) -> Result<(), ArchiveError> {
    accept(&snapshot.name, &snapshot.about.config)?;
    snapshot.verify()?;
    for (what, file) in snapshot.files()? {
        let path = format!("{}/{what}", snapshot.name).into_bytes();
        let passed = add(path, &file, snapshot.about.created, out);
        passed.map_err(|source| ArchiveError::Copy { what, source })?;
    }
    let ended = tar::end(out);
    ended.map_err(|source| ArchiveError::Copy {
        what: "end",
        source,
    })
}

/// Writes one file without its holes.
fn add(path: Vec<u8>, file: &File, created: u64, out: &mut dyn Write) -> io::Result<()> {
    let size = file.metadata()?.len();
    let map = segments(file, size)?;
    let stored: u64 = map.iter().map(|segment| segment.length).sum();
    let header = archive::header(&Entry {
        path,
        kind: Kind::File {
            size,
            map: (stored < size).then(|| map.clone()),
        },
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Time {
            seconds: i64::try_from(created / 1_000_000_000).unwrap_or(0),
            nanoseconds: 0,
        },
        xattrs: Vec::new(),
    });
    out.write_all(&header)?;
    let mut buffer = vec![0; BATCH];
    for Segment { offset, length } in map {
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(BATCH).min(BATCH);
            let piece = buffer.get_mut(..most).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            out.write_all(piece)?;
            at += most as u64;
        }
    }
    let padding = usize::try_from(stored.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    out.write_all([0; BLOCK].get(..padding).unwrap_or_default())
}

/// What of a file is not holes, in no more pieces than a reader takes.
fn segments(file: &File, size: u64) -> io::Result<Vec<Segment>> {
    let mut unit = PAGE as u64;
    let ranges = loop {
        let ranges = sparse::ranges(file, unit)?;
        if ranges.len() < MAX_SEGMENTS {
            break ranges;
        }
        unit *= 2;
    };
    let segment = |range: std::ops::Range<u64>| Segment {
        offset: range.start,
        length: range.end.min(size).saturating_sub(range.start),
    };
    Ok(ranges.into_iter().map(segment).collect())
}

/// Makes a snapshot of a stream, called `name`, or as it was where it came from.
pub(crate) fn read(
    from: impl Read,
    snapshots: &Snapshots,
    name: Option<&str>,
) -> Result<Snapshot, ArchiveError> {
    let mut stream = Incoming::new(from)?;
    let bytes = stream.small(CONTAINER)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => String::from_utf8_lossy(&stream.prefix).into_owned(),
    };
    let (about, task) = named::read_container(&name, &bytes)?;
    accept(&name, &about.config)?;
    let about = About {
        config: at_home_anywhere(about.config),
        ..about
    };
    let draft = snapshots.draft(&name)?;
    named::write_container(&name, &draft, &about, &task)?;
    receive(&mut stream, &draft, &about.config)?;
    let failed = |source| ArchiveError::Copy {
        what: "files",
        source,
    };
    let directory = draft.directory().try_clone_to_owned().map_err(failed)?;
    let found = Snapshot::read(&name, directory)?;
    found.verify()?;
    draft.finish().map_err(failed)?;
    Ok(found)
}

/// Fills a draft with the files of a machine of this shape.
fn receive(stream: &mut Incoming<'_>, draft: &Draft, config: &Config) -> Result<(), ArchiveError> {
    let machine = stream.small(MACHINE)?;
    let written = draft.replace_machine(&machine);
    written.map_err(|source| ArchiveError::Copy {
        what: MACHINE,
        source,
    })?;
    stream.large(MEMORY, config.machine.memory.bytes(), &draft.memory)?;
    if config.storage > 0 {
        let disk = draft::create(draft.directory().as_fd(), DISK);
        let disk = disk.map_err(|source| ArchiveError::Copy { what: DISK, source })?;
        stream.large(DISK, storage::length(config.storage), &disk)?;
    }
    match stream.reader.next()? {
        None => Ok(()),
        Some(_) => Err(ArchiveError::Foreign("end")),
    }
}

/// A stream that is being read.
struct Incoming<'a> {
    reader: Reader<Buffered<'a>>,
    /// What stands before the files' names: what the snapshot was called.
    prefix: Vec<u8>,
}

impl<'a> Incoming<'a> {
    fn new(from: impl Read + 'a) -> Result<Self, ArchiveError> {
        let mut input = Buffered::new(from);
        match io::BufRead::fill_buf(&mut input).map_err(TarError::from)? {
            [0x1f, 0x8b, ..] => Err(ArchiveError::Packed("gzip")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(ArchiveError::Packed("zstd")),
            _ => Ok(Self {
                reader: Reader::new(input),
                prefix: Vec::new(),
            }),
        }
    }

    /// The next entry, which must be this file: its length, and what of it is stored.
    fn next(&mut self, what: &'static str) -> Result<(u64, Option<Vec<Segment>>), ArchiveError> {
        let foreign = || ArchiveError::Foreign(what);
        let entry = self.reader.next()?.ok_or_else(foreign)?;
        let mut parts = entry.path.splitn(2, |byte| *byte == b'/');
        let (prefix, file) = (parts.next().unwrap_or_default(), parts.next());
        if what == CONTAINER {
            self.prefix = prefix.to_vec();
        }
        match entry.kind {
            Kind::File { size, map } if file == Some(what.as_bytes()) && prefix == self.prefix => {
                Ok((size, map))
            }
            _ => Err(foreign()),
        }
    }

    /// All of a file that fits into memory.
    fn small(&mut self, what: &'static str) -> Result<Vec<u8>, ArchiveError> {
        let (size, map) = self.next(what)?;
        if size > LONGEST || map.is_some() {
            return Err(ArchiveError::Foreign(what));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A file of so many bytes, into an empty one; what is zeros becomes holes.
    fn large(&mut self, what: &'static str, told: u64, to: &File) -> Result<(), ArchiveError> {
        let (found, map) = self.next(what)?;
        if found != told {
            return Err(ArchiveError::Length { what, found, told });
        }
        let failed = |source| ArchiveError::Copy { what, source };
        to.set_len(told).map_err(failed)?;
        let whole = || {
            vec![Segment {
                offset: 0,
                length: told,
            }]
        };
        let mut buffer = vec![0; BATCH];
        for Segment { offset, length } in map.unwrap_or_else(whole) {
            let (mut at, end) = (offset, offset.saturating_add(length));
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(BATCH).min(BATCH);
                let piece = buffer.get_mut(..most).unwrap_or_default();
                self.fill(piece)?;
                sparse::write_pages(to, piece, at).map_err(failed)?;
                at += most as u64;
            }
        }
        Ok(())
    }

    /// The next bytes of a file.
    fn fill(&mut self, mut room: &mut [u8]) -> Result<(), ArchiveError> {
        while !room.is_empty() {
            let data = self.reader.data()?;
            let count = data.len().min(room.len());
            let Some((now, later)) = room.split_at_mut_checked(count).filter(|_| count > 0) else {
                return Err(TarError::Read(io::ErrorKind::UnexpectedEof.into()).into());
            };
            now.copy_from_slice(data.get(..count).unwrap_or_default());
            self.reader.consume(count);
            room = later;
        }
        Ok(())
    }
}

/// Refuses a container that is a part of its host, or none of hull's.
fn accept(name: &str, config: &Config) -> Result<(), ArchiveError> {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let sizes = storage::LEAST..=storage::MOST;
    let what = if let Some((what, _)) = named::refusal(config) {
        what
    } else if config.shared().next().is_some() {
        // Whoever wrote the archive would say which.
        "directories of the host"
    } else if config.kernel.is_some() {
        "a kernel of its user's"
    } else if config.machine.root != Root::Image || config.image_id.parse::<Digest>().is_err() {
        "no image"
    } else if config.storage != 0 && !sizes.contains(&config.storage) {
        "an impossible disk"
    } else if config.id.len() != 64 || !config.id.bytes().all(hex) {
        "an impossible id"
    } else {
        return Ok(());
    };
    let name = name.to_owned();
    Err(ArchiveError::Bound { name, what })
}

/// The same without what a host gave it: ports, files, name servers and ports of the host's own, and how much log it keeps.
fn at_home_anywhere(config: Config) -> Config {
    let mut machine = config.machine;
    machine.timings = false;
    machine.network = machine.network.map(|settings| network::Settings {
        host: false,
        resolvers: Vec::new(),
        neighbours: false,
        ..settings
    });
    Config {
        machine,
        ports: Vec::new(),
        pidfile: None,
        interactive: false,
        log_limits: Default::default(),
        ..config
    }
}

#[cfg(test)]
mod tests;

//! What a container printed, in the lines of docker's json-file driver. Bounded: the file is rotated once it is long, and
//! only so many older files are kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::Stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli::{Size, SizeError};
use crate::human;

/// The file's name in the container's directory.
pub(crate) const NAME: &str = "log";
/// Files at most.
const MOST_FILES: u32 = 1000;
/// A line without an end is written in pieces of this many bytes, as docker does.
const LONGEST_LINE: usize = 16 << 10;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes after which a file is put away.
    pub(crate) size: u64,
    /// Files that are kept, the one being written among them.
    pub(crate) files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 20 << 20,
            files: 2,
        }
    }
}

/// One of docker's options for this driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogOption {
    MaxSize(u64),
    MaxFile(u32),
}

impl FromStr for LogOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        match key {
            "max-size" => match value.parse() {
                Ok(Size(bytes @ 1024..)) => Ok(Self::MaxSize(bytes)),
                Ok(_) => Err("a file of the log has 1k at least".to_owned()),
                Err(error) => Err(SizeError::to_string(&error)),
            },
            "max-file" => match value.parse() {
                Ok(files @ 1..=MOST_FILES) => Ok(Self::MaxFile(files)),
                _ => Err(format!("a log has 1 to {MOST_FILES} files")),
            },
            _ => Err(format!("{key} is not known, but max-size and max-file are")),
        }
    }
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The text with its line feed, if it had one.
    pub(crate) log: String,
    /// `stdout` or `stderr`.
    pub(crate) stream: String,
    /// When it was read, RFC 3339.
    pub(crate) time: String,
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    limits: Limits,
    /// Beginnings of lines of standard output and standard error.
    begun: [Vec<u8>; 2],
}

impl Log {
    /// Goes on with the log at this path.
    pub(crate) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self {
            length: file.metadata()?.len(),
            path: path.to_owned(),
            limits,
            file,
            begun: [Vec::new(), Vec::new()],
        })
    }

    /// Writes the lines that these bytes complete.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut text = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let begun = self.begun_of(stream);
            let mut rest = piece;
            while !rest.is_empty() {
                let room = LONGEST_LINE.saturating_sub(begun.len()).min(rest.len());
                let (now, later) = rest.split_at(room);
                begun.extend_from_slice(now);
                rest = later;
                if begun.ends_with(b"\n") || begun.len() >= LONGEST_LINE {
                    entry(stream, begun, &mut text)?;
                }
            }
        }
        self.put(&text)
    }

    /// Writes what has not come to the end of its line.
    pub(crate) fn finish(&mut self, stream: Stream) -> io::Result<()> {
        let mut text = Vec::new();
        let begun = self.begun_of(stream);
        if !begun.is_empty() {
            entry(stream, begun, &mut text)?;
        }
        self.put(&text)
    }

    fn begun_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.begun;
        if stream == Stream::Stderr {
            stderr
        } else {
            stdout
        }
    }

    /// Each file takes the place of the next older one.
    fn rotate(&mut self) -> io::Result<()> {
        let files: Vec<_> = [self.path.clone()]
            .into_iter()
            .chain(older(&self.path, self.limits))
            .collect();
        for pair in files.windows(2).rev() {
            if let [newer, older] = pair {
                match std::fs::rename(newer, older) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        if files.len() == 1 {
            self.file.set_len(0)?;
        }
        self.file = append(&self.path)?;
        self.length = 0;
        Ok(())
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.length > self.limits.size {
            self.rotate()?;
        }
        self.length += text.len() as u64;
        self.file.write_all(text)
    }
}

/// Where the older parts of a log are, the newest of them first.
pub(crate) fn older(path: &Path, limits: Limits) -> impl DoubleEndedIterator<Item = PathBuf> {
    (1..limits.files).map(|number| path.with_added_extension(number.to_string()))
}

/// The entries of the log in this file, from where the reader stands; a line that is no entry is left out. Gives how many
/// bytes were whole lines.
pub(crate) fn read<T: DeserializeOwned>(
    file: &File,
    mut each: impl FnMut(T) -> io::Result<()>,
) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut line, mut whole) = (Vec::new(), 0);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(whole);
        }
        whole += line.len() as u64;
        if let Ok(entry) = serde_json::from_slice(&line) {
            each(entry)?;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

fn entry(stream: Stream, begun: &mut Vec<u8>, text: &mut Vec<u8>) -> io::Result<()> {
    let entry = Entry {
        log: String::from_utf8_lossy(begun).into_owned(),
        stream: if stream == Stream::Stderr {
            "stderr"
        } else {
            "stdout"
        }
        .to_owned(),
        time: human::rfc3339(human::nanoseconds()),
    };
    begun.clear();
    serde_json::to_writer(&mut *text, &entry)?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests;

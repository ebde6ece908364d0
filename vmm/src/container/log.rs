//! What a container printed, in the lines of docker's json-file driver. Bounded: the file is rotated once it is long, and
//! one older file is kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use protocol::Stream;
use serde::{Deserialize, Serialize};

use crate::human;

/// The file's name in the container's directory.
pub(crate) const NAME: &str = "log";
/// Bytes after which a file is put away, and the one before it removed.
const LONGEST: u64 = 20 << 20;
/// A line without an end is written in pieces of this many bytes, as docker does.
const LONGEST_LINE: usize = 16 << 10;

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
    /// Beginnings of lines of standard output and standard error.
    begun: [Vec<u8>; 2],
}

impl Log {
    /// Goes on with the log at this path.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self {
            length: file.metadata()?.len(),
            path: path.to_owned(),
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

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.length > LONGEST {
            std::fs::rename(&self.path, older(&self.path))?;
            self.file = append(&self.path)?;
            self.length = 0;
        }
        self.length += text.len() as u64;
        self.file.write_all(text)
    }
}

/// Where the older part of a log is.
pub(crate) fn older(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

/// The entries of the log in this file, from where the reader stands; a line that is no entry is left out. Gives how many
/// bytes were whole lines.
pub(crate) fn read(file: &File, mut each: impl FnMut(Entry) -> io::Result<()>) -> io::Result<u64> {
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

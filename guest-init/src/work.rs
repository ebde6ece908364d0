//! What init does by itself for the host: packing, unpacking and comparing files, and telling which processes there are. In
//! a process of its own, so that init never waits; it ends with this one thing.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use protocol::{Item, Message, Work};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;

use crate::errno::SystemError;
use crate::failure::{SetupError, refused};
use crate::process::Stdio;
use crate::root::{Base, Layers};
use crate::sys::{self, Fork, Pid};

mod changes;
mod pack;
mod processes;
mod unpack;

/// Bytes that are read or written at a time.
const CHUNK: usize = 64 << 10;

/// Whether it has standard input.
#[must_use]
pub fn reads(work: &Work) -> bool {
    matches!(work, Work::Unpack { .. })
}

/// Makes the process.
///
/// # Errors
/// Out of processes or memory.
pub fn start(work: &Work, stdio: Stdio, layers: Option<&Layers>) -> Result<Pid, SetupError> {
    match sys::fork(None).map_err(refused("make a process"))? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => sys::leave(i32::from(!become_it(work, &stdio, layers))),
    }
}

/// In the child: leaves all of init's descriptors but these, for some are the far ends of its own streams.
fn become_it(work: &Work, stdio: &Stdio, layers: Option<&Layers>) -> bool {
    let streams = [&stdio.input, &stdio.output, &stdio.error];
    let layers_are = layers.map(|layers| [&layers.lower, &layers.upper]);
    let kept = streams.into_iter().chain(layers_are.into_iter().flatten());
    let mut kept: Vec<i32> = kept.map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut first = 3;
    for kept in kept {
        sys::close_range(first, kept - 1);
        first = kept + 1;
    }
    sys::close_range(first, i32::MAX);
    sys::unblock_signals();
    let done = carry_out(work, stdio, layers);
    if let Err(why) = &done {
        let _ = rustix::io::write(&stdio.error, why.as_bytes());
    }
    done.is_ok()
}

fn carry_out(work: &Work, stdio: &Stdio, layers: Option<&Layers>) -> Result<(), String> {
    let mut out = Out {
        stream: &stdio.output,
        buffer: Vec::new(),
    };
    match work {
        Work::Pack {
            path,
            follow,
            whole,
        } => pack::pack(&mut out, path, *follow, *whole)?,
        Work::Unpack { path, name } => {
            let input = In {
                stream: &stdio.input,
                buffer: Vec::new(),
                at: 0,
            };
            return unpack::unpack(input, path, name);
        }
        Work::Changes => match layers {
            Some(layers) if layers.base != Base::Direct => changes::changes(&mut out, layers)?,
            _ => return Err("The root has no layers".to_string()),
        },
        Work::Processes => processes::processes(&mut out)?,
    }
    out.item(&Item::End)?;
    out.flush()
}

/// What the user is told.
fn failed(doing: &str, path: &[u8], errno: Errno) -> String {
    let path = path.escape_ascii();
    format!("Cannot {doing} {path}: {}", SystemError(errno))
}

fn wrong(error: &dyn Display) -> String {
    error.to_string()
}

/// Standard output, in chunks.
struct Out<'a> {
    stream: &'a OwnedFd,
    buffer: Vec<u8>,
}

impl Out<'_> {
    fn item(&mut self, item: &Item) -> Result<(), String> {
        let frame = protocol::encode(item).map_err(|error| wrong(&error))?;
        self.bytes(&frame)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() >= CHUNK {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        let done = write_all(self.stream, &self.buffer);
        self.buffer.clear();
        done.map_err(|errno| failed("write", b"standard output", errno))
    }
}

fn write_all(to: impl rustix::fd::AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Standard input, in chunks.
struct In<'a> {
    stream: &'a OwnedFd,
    buffer: Vec<u8>,
    at: usize,
}

impl In<'_> {
    /// Some bytes that come next, so many at most.
    fn some(&mut self, most: usize) -> Result<&[u8], String> {
        if self.at == self.buffer.len() {
            self.buffer.resize(CHUNK, 0);
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::read(self.stream, self.buffer.as_mut_slice())
            });
            let read = read.map_err(|errno| failed("read", b"standard input", errno))?;
            self.buffer.truncate(read);
            self.at = 0;
        }
        let there = self.buffer.get(self.at..).unwrap_or_default();
        let piece = there.get(..most).unwrap_or(there);
        if piece.is_empty() {
            return Err("Standard input was cut short".to_string());
        }
        self.at += piece.len();
        Ok(piece)
    }

    fn exactly(&mut self, size: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let piece = self.some(size - bytes.len())?;
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    }

    fn item(&mut self) -> Result<Item, String> {
        let mut size = [0; 4];
        for (to, from) in size.iter_mut().zip(self.exactly(4)?) {
            *to = from;
        }
        let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        if size > Item::LIMIT {
            return Err("Standard input is malformed".to_string());
        }
        Item::decode(&self.exactly(size)?).map_err(|error| wrong(&error))
    }
}

/// The names in a directory, sorted.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = [core::mem::MaybeUninit::uninit(); 8192];
    let mut entries = rustix::fs::RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path and a name below it.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path.is_empty() || path.ends_with(b"/") || name.is_empty() {
        true => [path, name].concat(),
        false => [path, b"/", name].concat(),
    }
}

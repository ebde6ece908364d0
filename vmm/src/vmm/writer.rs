//! A process that writes a guest's memory down as it was when the process was made, while the guest goes on: what either side
//! changes from then on the host copies, page by page. Knows descriptors, and no paths.
//!
//! It has the memory, the file, and its parent's socket, whose end is its own. It is made where all other threads wait.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{VmmError, Word, chain, receive_word, send_word};
use crate::machine::memory::GuestMemory;
use crate::{jail, sys};

/// The parent's hold of it.
#[derive(Debug)]
pub(super) struct Writer {
    /// Closed at the other end when it ends.
    socket: OwnedFd,
}

impl Writer {
    /// Begins to write into an empty file. No processor of the guest runs.
    pub(super) fn begin(memory: &GuestMemory, file: OwnedFd) -> io::Result<Self> {
        let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
        let (socket, parent) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        let file = sys::file(file);
        sys::part(|| {
            let written = be_alone(memory, &file, &parent)
                .and_then(|()| memory.write_to(&file))
                .map_err(|error| chain(&VmmError::Save(error)));
            // Who asked may have gone.
            let _ = send_word(&parent, &Word::Written(written));
        })?;
        Ok(Self { socket })
    }

    /// What came of it. It has ended.
    pub(super) fn result(&self) -> Result<(), String> {
        match receive_word(&self.socket) {
            Ok(Word::Written(written)) => written,
            _ => Err("The process that wrote the memory was killed".to_owned()),
        }
    }
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives up all of the VMM's that writing does not need, so that nobody waits for this process in its parent's place.
fn be_alone(memory: &GuestMemory, file: &File, parent: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let keep: Vec<BorrowedFd<'_>> = [file.as_fd(), parent.as_fd()]
        .into_iter()
        .chain(memory.file())
        .collect();
    jail::keep_only(&keep)?;
    // A parent that died before it would be heard has closed its end.
    match recv(parent, &mut [0; 1][..], RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

#[cfg(test)]
mod tests;

//! The socket between a container's supervisor and whoever asks something of it: one message a packet, descriptors
//! beside it. Refuses to know what is done about a request.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use protocol::{Bounds, Process, Status, Stream, WindowSize, Work};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::machine::report::Report;
use crate::packet;

/// As much as Linux lets an ordinary user's socket take at once.
const LONGEST: usize = 200 << 10;
/// Askers that wait to be let in.
const BACKLOG: i32 = 64;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What is asked of a supervisor. The first request of a connection says what it is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Say that you are there.
    Greet,
    /// The first process's streams, from now on; its end is told.
    Attach {
        /// Its standard input too.
        stdin: bool,
        /// The container ends when this connection does.
        bound: bool,
    },
    /// Tell when the first process runs, or why it does not.
    Start {
        /// The container ends when this connection does.
        bound: bool,
    },
    /// Tell when the first process has ended.
    Wait,
    /// Start a further process; the connection is about it from now on.
    Exec {
        /// The process; its id is the supervisor's to give.
        process: Box<Process>,
        /// Its streams are wanted, and its end.
        attached: bool,
    },
    /// Have guest init do something in a process of its own; the connection is about it from now on.
    Work(Work),
    /// Send a signal to the process that the connection is about; the first one, if it is about none.
    Signal(u8),
    /// The same process's window has changed.
    Resize(WindowSize),
    /// Write the container as it is now into the directory beside this, which has the two files of a saved machine, empty. It
    /// goes on afterwards; the answer tells what came of it.
    Snapshot {
        /// It goes on before its memory is written.
        live: bool,
    },
    /// Stop the virtual machine where it is.
    Pause,
    /// Let it go on.
    Unpause,
    /// Bound the container anew as far as its machine goes.
    Bound(Bounds),
    /// End the virtual machine, whatever the guest does.
    Destroy,
}

/// What a supervisor says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process runs.
    Started,
    /// A stream from the process: the descriptor beside this, after these bytes.
    Stream(Stream, Vec<u8>),
    /// The process's standard input: the descriptor beside this.
    Stdin,
    /// The connection is attached in the other way that it asked for.
    Released,
    /// It is done.
    Done,
    /// As much of it is done as the machine has: so many bytes of memory, so many processors.
    Bounded { memory: u64, cpus: u8 },
    /// It is not done, and why.
    Refused(String),
    /// The process has ended, or never ran.
    Ended(Box<Ended>),
}

/// How a process ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Its status, or why there is none.
    pub(crate) result: Result<Status, Failure>,
    /// The guest's time stamp counter when init started, the process started, and it ended.
    pub(crate) ticks: [u64; 3],
    /// The VMM's report, where the container is to tell its timings.
    pub(crate) report: Option<Report>,
}

/// Why a supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("The connection to the container's supervisor failed")]
    Socket(#[from] Errno),
    #[error("The container's supervisor ended")]
    Closed,
    #[error("A message of the container's supervisor is malformed")]
    Malformed(#[from] postcard::Error),
    #[error("Command and environment are longer than {LONGEST} bytes")]
    TooLong,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Two ends of a new connection.
    pub(crate) fn pair() -> Result<(Self, Self), ControlError> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Connects to the supervisor that listens in this directory.
    pub(crate) fn connect(directory: BorrowedFd<'_>) -> Result<Self, ControlError> {
        let socket = new()?;
        // One that is stopped accepts nobody, and lets only so many wait.
        set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_LIMIT))?;
        rustix::net::connect(&socket, &address(directory)?)?;
        Ok(Self(socket))
    }

    /// Sends a message, with a descriptor beside it.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), ControlError> {
        let text = postcard::to_allocvec(message)?;
        if text.len() > LONGEST {
            return Err(ControlError::TooLong);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, flags)?;
        Ok(())
    }

    /// The next message and the descriptor beside it, waiting for it if `wait`; nothing when none is there.
    pub(crate) fn receive<M: DeserializeOwned>(
        &self,
        wait: bool,
    ) -> Result<Option<(M, Option<OwnedFd>)>, ControlError> {
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let mut text = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = packet::room(&self.0, LONGEST, flags).and_then(|room| {
            text = room;
            let text = &mut [IoSliceMut::new(&mut text)];
            recvmsg(&self.0, text, &mut ancillary, flags)
        });
        let received = match received {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(ControlError::Closed),
            received => received?,
        };
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut some) => some.next(),
            _ => None,
        });
        match received.bytes {
            0 => Err(ControlError::Closed),
            length => {
                let message = postcard::from_bytes(text.get(..length).unwrap_or_default())?;
                Ok(Some((message, descriptor)))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a supervisor is asked.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// Listens in this directory, instead of whoever did so before.
    pub(crate) fn bind(directory: BorrowedFd<'_>) -> Result<Self, ControlError> {
        match rustix::fs::unlinkat(directory, NAME, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let socket = new()?;
        rustix::net::bind(&socket, &address(directory)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// The next connection, if one waits.
    pub(crate) fn accept(&self) -> io::Result<Socket> {
        Ok(Socket(rustix::net::accept_with(
            &self.0,
            SocketFlags::CLOEXEC,
        )?))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The socket's name in the container's directory.
pub(crate) const NAME: &str = "socket";

fn new() -> Result<OwnedFd, Errno> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
}

/// A socket's address may be 107 bytes long, a directory's path more: it is named by its descriptor.
fn address(directory: BorrowedFd<'_>) -> Result<SocketAddrUnix, Errno> {
    use std::os::fd::AsRawFd;
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests;

//! The control connection: frames out without waiting, frames in as they come. Knows no message's meaning.

use alloc::vec::Vec;

use protocol::{Decoder, FrameError, FromGuest, FromHost, Hello, Message, Opening};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use thiserror::Error;

/// The host can no longer be talked to.
#[derive(Debug, Error)]
pub enum Lost {
    /// It closed the connection: it has what it wanted, or it is gone.
    #[error("The host closed the connection")]
    Closed,
    /// The connection failed.
    #[error("The connection to the host failed: {0}")]
    Failed(crate::errno::SystemError),
    /// It does not speak the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The host's end of the control connection, as init sees it.
#[derive(Debug)]
pub struct Host {
    socket: OwnedFd,
    decoder: Decoder,
    outgoing: Vec<u8>,
}

impl Host {
    /// Says hello over a socket that may still be connecting and does not block.
    ///
    /// # Errors
    /// The connection is refused or fails.
    pub fn greet(socket: OwnedFd, hello: Hello) -> Result<Self, Lost> {
        let mut host = Self {
            socket,
            decoder: Decoder::new(),
            outgoing: Vec::new(),
        };
        host.queue(&Opening::Hello(hello))?;
        host.flush()?;
        Ok(host)
    }

    /// Sends a message, now or when there is room.
    ///
    /// # Errors
    /// The connection is gone, or the message is too large.
    pub fn send(&mut self, message: &FromGuest) -> Result<(), Lost> {
        self.queue(message)?;
        self.flush()
    }

    fn queue<M: Message>(&mut self, message: &M) -> Result<(), Lost> {
        self.outgoing.append(&mut protocol::encode(message)?);
        Ok(())
    }

    /// Sends what is waiting, as far as there is room.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> Result<(), Lost> {
        while !self.outgoing.is_empty() {
            match rustix::net::send(
                &self.socket,
                &self.outgoing,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::AGAIN | Errno::INPROGRESS) => return Ok(()),
                // Still connecting; if it was refused, reading says so.
                Err(Errno::NOTCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(lost(errno)),
            }
        }
        Ok(())
    }

    /// The next message, `None` when none is there yet.
    ///
    /// # Errors
    /// The connection is gone, or what came is no message.
    pub fn receive(&mut self) -> Result<Option<FromHost>, Lost> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.take()? {
                return Ok(Some(message));
            }
            match rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Lost::Closed),
                Ok((received, _)) => self
                    .decoder
                    .push(buffer.get(..received).unwrap_or_default()),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(lost(errno)),
            }
        }
    }

    /// The next message, waiting for it.
    ///
    /// # Errors
    /// The connection is gone, or what came is no message.
    pub fn wait(&mut self) -> Result<FromHost, Lost> {
        loop {
            // Before it is connected a vsock socket has nothing to receive and says so by failing.
            if !self.is_connecting()
                && let Some(message) = self.receive()?
            {
                return Ok(message);
            }
            let writable = if self.outgoing.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            let mut wanted = [PollFd::new(&self.socket, PollFlags::IN | writable)];
            match poll(&mut wanted, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(lost(errno)),
            }
            let [happened] = wanted;
            if happened.revents().intersects(PollFlags::ERR) {
                let error = rustix::net::sockopt::socket_error(&self.socket);
                return Err(lost(
                    error
                        .and_then(|result| result)
                        .err()
                        .unwrap_or(Errno::CONNRESET),
                ));
            }
            self.flush()?;
        }
    }

    /// Whether the connection is still being made; once it is, the first frame is sent.
    ///
    /// # Errors
    /// It is gone.
    pub fn is_under_way(&mut self) -> Result<bool, Lost> {
        self.flush()?;
        Ok(self.is_connecting())
    }

    /// The first frame is sent as soon as there is a connection.
    fn is_connecting(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lost(errno: Errno) -> Lost {
    match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Lost::Closed,
        errno => Lost::Failed(errno.into()),
    }
}

//! One connection from guest init: whole frames out of what has arrived.

use std::os::unix::net::UnixStream;

use protocol::{Decoder, FrameError, FromHost};

use super::DRAIN_LIMIT;

/// A connection and the bytes of it that are no whole frame yet.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    pub(crate) decoder: Decoder,
}

/// What a connection has to give.
pub(crate) enum Next<M> {
    Message(M),
    Incomplete,
    End,
}

impl Connection {
    /// A connection that was just accepted, which blocks nobody from now on.
    pub(crate) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        let decoder = Decoder::new();
        Ok(Self { stream, decoder })
    }

    /// The next whole message, reading no more than is there.
    pub(crate) fn next<M: protocol::Message>(&mut self) -> Result<Next<M>, FrameError> {
        loop {
            if let Some(message) = self.decoder.take()? {
                return Ok(Next::Message(message));
            }
            let mut bytes = [0; 4096];
            match std::io::Read::read(&mut self.stream, &mut bytes) {
                Ok(0) => return Ok(Next::End),
                Ok(count) => self.decoder.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Next::Incomplete);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(Next::End);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &FromHost) -> Result<(), FrameError> {
        // A guest that does not read its control connection may not hold up the host.
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(DRAIN_LIMIT))?;
        let sent = protocol::write(&mut self.stream, message);
        self.stream.set_nonblocking(true)?;
        match sent {
            // It has closed its end; what it said before is still to be read, and the end after it.
            Err(FrameError::Connection(_)) => Ok(()),
            sent => sent,
        }
    }
}

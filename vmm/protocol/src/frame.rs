//! Frames: a length of four bytes, little-endian, and that many bytes of postcard. Knows nothing of what a message
//! asks for. Nothing is allocated for a length before its bytes have arrived.

use alloc::vec;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{FromGuest, FromHost, Opening, VERSION};

/// Why a frame could not be written or read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The message, or the length the other side claims, is over the bound of its kind.
    #[error("A frame of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the payload.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The payload is not exactly one message.
    #[error("A frame of {size} bytes is not a message of this protocol")]
    Malformed {
        /// Bytes of the payload.
        size: usize,
    },
    /// The guest was built from another version of this crate.
    #[error("Guest init speaks protocol version {theirs}, this hull speaks version {VERSION}")]
    Version {
        /// The guest's version.
        theirs: u16,
    },
    /// The connection failed or ended within a frame.
    #[cfg(feature = "std")]
    #[error("The agent connection failed")]
    Connection(#[from] io::Error),
}

/// What can be sent as a frame.
pub trait Message: Serialize + DeserializeOwned {
    /// The largest payload of this kind, in bytes.
    const LIMIT: usize;

    /// The message of a payload.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] unless the payload is one message and nothing else.
    fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed {
            size: payload.len(),
        };
        match postcard::take_from_bytes(payload) {
            Ok((message, [])) => Ok(message),
            _ => Err(malformed),
        }
    }
}

impl Message for Opening {
    const LIMIT: usize = 64;

    /// A `Hello` of another version is recognised whatever follows its version.
    fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed {
            size: payload.len(),
        };
        // The kind is a number of any length: 0 may come as two bytes.
        if let Ok((0_u32, rest)) = postcard::take_from_bytes(payload) {
            match postcard::take_from_bytes::<u16>(rest) {
                Ok((VERSION, _)) => {}
                Ok((theirs, _)) => return Err(FrameError::Version { theirs }),
                Err(_) => return Err(malformed),
            }
        }
        match postcard::take_from_bytes(payload) {
            Ok((message, [])) => Ok(message),
            _ => Err(malformed),
        }
    }
}

impl Message for FromHost {
    /// Room for arguments and environment; Linux itself stops at 2 MiB.
    const LIMIT: usize = 1 << 20;
}

impl Message for FromGuest {
    /// Room for an error text with a long path in it.
    const LIMIT: usize = 16 << 10;
}

const HEADER: usize = 4;

/// One whole frame.
///
/// # Errors
/// [`FrameError::TooLarge`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER];
    frame = postcard::to_extend(message, frame).map_err(|_| FrameError::Malformed { size: 0 })?;
    let size = frame.len().saturating_sub(HEADER);
    let too_large = FrameError::TooLarge {
        size,
        limit: M::LIMIT,
    };
    if size > M::LIMIT {
        return Err(too_large);
    }
    match (frame.first_chunk_mut::<HEADER>(), u32::try_from(size)) {
        (Some(header), Ok(size)) => *header = size.to_le_bytes(),
        _ => return Err(too_large),
    }
    Ok(frame)
}

/// Writes one frame, blocking until all of it is written.
///
/// # Errors
/// [`FrameError::TooLarge`], [`FrameError::Connection`].
#[cfg(feature = "std")]
pub fn write<M: Message>(sink: &mut impl Write, message: &M) -> Result<(), FrameError> {
    Ok(sink.write_all(&encode(message)?)?)
}

/// Reads one frame and not a byte more, blocking until it is there; `None` when the stream ends before one begins.
///
/// # Errors
/// [`FrameError::TooLarge`], [`FrameError::Malformed`], [`FrameError::Version`], [`FrameError::Connection`].
#[cfg(feature = "std")]
pub fn read<M: Message>(source: &mut impl Read) -> Result<Option<M>, FrameError> {
    let mut header = Vec::with_capacity(HEADER);
    source
        .by_ref()
        .take(HEADER as u64)
        .read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    let Some((&header, _)) = header.split_first_chunk::<HEADER>() else {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    };
    let size = size::<M>(header)?;
    let mut payload = Vec::new();
    source
        .by_ref()
        .take(size as u64)
        .read_to_end(&mut payload)?;
    if payload.len() < size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    M::decode(&payload).map(Some)
}

/// The payload's size that a header claims, if it is within the bound of the kind.
fn size<M: Message>(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let size = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if size > M::LIMIT {
        return Err(FrameError::TooLarge {
            size,
            limit: M::LIMIT,
        });
    }
    Ok(size)
}

/// Takes bytes as they come and gives whole messages: for descriptors that do not block.
///
/// Holds at most one frame and what the last [`push`](Self::push) brought, if [`take`](Self::take) is called until it
/// gives `None` after each push. After an error the stream has no meaning any more: drop the connection.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Nothing received yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, `None` while it is incomplete.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], [`FrameError::Malformed`], [`FrameError::Version`].
    pub fn take<M: Message>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((&header, rest)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let size = size::<M>(header)?;
        let Some(payload) = rest.get(..size) else {
            return Ok(None);
        };
        let message = M::decode(payload)?;
        self.buffer.drain(..HEADER.saturating_add(size));
        Ok(Some(message))
    }

    /// Bytes received that belong to no complete frame: after an [`Opening::Attach`] the stream's first bytes.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

#[cfg(test)]
mod tests;

//! Room for a packet of a socket that keeps packets apart.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// As much room as the next packet needs, which is waited for as `flags` say, but at most `longest` bytes. Nobody else reads from the socket.
///
/// Most packets are a few bytes long, and whoever has the longest in mind pays for 50 pages of zeros each time.
pub(crate) fn room(socket: impl AsFd, longest: usize, flags: RecvFlags) -> Result<Vec<u8>, Errno> {
    let flags = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, length) = recv(socket, &mut [0_u8; 0][..], flags)?;
    Ok(vec![0; length.min(longest)])
}

#[cfg(test)]
mod tests;

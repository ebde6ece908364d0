//! The other guests of a network of one's own: each has a datagram socket in the network's directory that is named for its guest's
//! address, and beside it a link whose text is what it is called. Refuses to know what is sent.
//!
//! Whoever has bound a socket is named by the host's kernel, so nobody can send as somebody else, whatever became of its process.
//! A message is a protocol's number, with [`OVER_IPV6`] where that is meant, and a packet's payload; an empty one is nothing, and is how one
//! finds out who is there. Addresses are IPv4's throughout: those of IPv6 follow from them.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix, recvfrom, sendto};

use crate::GATEWAY;

/// Last numbers of addresses that guests can have.
pub const HOSTS: std::ops::RangeInclusive<u8> = 3..=254;

/// The bit of a message's first byte that tells IPv6 from IPv4.
pub(crate) const OVER_IPV6: u8 = 0x80;

/// What a guest's socket is called in its network's directory.
#[must_use]
pub fn socket_name(address: Ipv4Addr) -> String {
    address.to_string()
}

/// What the link with its names is called there. Its text is the names, in lower case, with commas between them.
#[must_use]
pub fn link_name(address: Ipv4Addr) -> String {
    format!("{address}.names")
}

/// The way to the others.
#[derive(Debug)]
pub struct Neighbours {
    /// This guest's socket, bound in the directory; it does not block.
    pub socket: OwnedFd,
    /// The directory, opened in any way.
    pub directory: OwnedFd,
    /// What to put before the number of a descriptor for a path to it.
    pub prefix: &'static str,
}

impl Neighbours {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a message, if there is room for it; whether there was. An error means that nobody is there.
    pub(crate) fn send(&self, to: Ipv4Addr, message: &[u8]) -> Result<bool, Errno> {
        let directory = self.directory.as_raw_fd();
        let path = format!("{}{directory}/{}", self.prefix, socket_name(to));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendto(&self.socket, message, flags, &SocketAddrUnix::new(path)?) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a guest of this address is there.
    pub(crate) fn has(&self, address: Ipv4Addr) -> bool {
        is_host(address) && self.send(address, &[]).is_ok()
    }

    /// The next message, and whose it is; nobody's, if no guest can have sent it.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<(usize, Option<Ipv4Addr>), Errno> {
        let (length, _, from) = recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT)?;
        let from = from.and_then(|from| SocketAddrUnix::try_from(from).ok());
        let sender = from.as_ref().and_then(|from| {
            let path = Path::new(OsStr::from_bytes(from.path_bytes()?));
            let address = path.file_name()?.to_str()?.parse().ok()?;
            is_host(address).then_some(address)
        });
        Ok((length, sender))
    }

    /// The guests that are called so and are there.
    pub(crate) fn named(&self, name: &str) -> Vec<Ipv4Addr> {
        let [a, b, c, _] = GATEWAY.0.octets();
        let all = HOSTS.map(|last| Ipv4Addr::new(a, b, c, last));
        let called = |address: &Ipv4Addr| {
            let names = rustix::fs::readlinkat(&self.directory, link_name(*address), Vec::new());
            let names = names.unwrap_or_default();
            let mut names = names.to_bytes().split(|byte| *byte == b',');
            names.any(|own| own == name.as_bytes())
        };
        all.filter(called).filter(|one| self.has(*one)).collect()
    }
}

/// Whether a guest can have this address.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    let [a, b, c, last] = address.octets();
    let [own_a, own_b, own_c, _] = GATEWAY.0.octets();
    [a, b, c] == [own_a, own_b, own_c] && HOSTS.contains(&last)
}

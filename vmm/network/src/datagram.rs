//! A flow of datagrams: UDP, DNS through the gateway, or echoes, each with a socket of its own that is connected to the other end;
//! or answers to whoever sent something to a published port. Refuses to know who may send where.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    sendto, socket_with,
};
use virtio::Reader;

use crate::link::Unreachable;
use crate::servers::Turn;
use crate::wire;

/// The longest datagram.
pub(crate) const LONGEST: usize = 65_507;
/// What is watched.
pub(crate) const EVENTS: EventFlags = EventFlags::IN.union(EventFlags::ET);

/// Where a flow's datagrams go.
#[derive(Debug)]
pub(crate) enum Way {
    /// To the other end of this socket.
    Own(OwnedFd),
    /// To a peer of a published port.
    Port(usize, SocketAddr),
}

/// What a flow is.
#[derive(Debug)]
pub(crate) enum Content {
    Udp,
    Echo,
    /// Questions to a name server.
    Dns(Turn),
}

/// A flow of datagrams.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) way: Way,
    pub(crate) content: Content,
    /// Ticks since something passed.
    pub(crate) idle: u32,
}

/// A socket connected to `other`, of UDP or of echoes.
pub(crate) fn open(other: SocketAddr, protocol: u8) -> Result<OwnedFd, Errno> {
    let family = match other {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let protocol = match protocol {
        wire::ICMP => Some(ipproto::ICMP),
        wire::ICMPV6 => Some(ipproto::ICMPV6),
        _ => None,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, protocol)?;
    connect(&socket, &other)?;
    Ok(socket)
}

/// Why a datagram did not arrive, if that is what this error of its socket says.
pub(crate) fn unreachable(error: Errno) -> Option<Unreachable> {
    match error {
        Errno::CONNREFUSED => Some(Unreachable::Port),
        error => Unreachable::by(error),
    }
}

/// Reads a whole datagram of the guest's.
pub(crate) fn read(frame: &mut Reader<'_>) -> Option<Vec<u8>> {
    let length = frame.left();
    if length > LONGEST {
        return None;
    }
    let mut bytes = vec![0; length];
    (frame.read(&mut bytes) == length).then_some(bytes)
}

/// Sends a datagram; one that cannot be sent is lost, as datagrams are.
pub(crate) fn put(socket: &OwnedFd, bytes: &[u8], to: Option<SocketAddr>) {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let send = || match to {
        Some(to) => sendto(socket, bytes, flags, &to),
        None => send(socket, bytes, flags),
    };
    // The first error may be what became of the one before.
    let _ = send().or_else(|_| send());
}

/// The next datagram of a socket, if there is one.
pub(crate) fn take(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (length, _) = recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(length)
}

/// An echo's message with another identifier and a checksum to match.
pub(crate) fn identify(message: &mut [u8], identifier: u16, v6: Option<u16>) {
    if let Some([high, low]) = message.get_mut(4..6) {
        [*high, *low] = identifier.to_be_bytes();
    }
    wire::finish(message, 0, 2, v6.unwrap_or(0));
}

/// The protocol of echoes to this address.
pub(crate) fn echo_protocol(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => wire::ICMP,
        IpAddr::V6(_) => wire::ICMPV6,
    }
}

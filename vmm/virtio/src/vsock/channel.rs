//! The channel to the launcher: one message is a port and the end of a stream. Refuses to know what streams carry.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A connected `SOCK_SEQPACKET` socket. Each message is a port, 4 bytes little-endian, with exactly one descriptor. Of a
/// connection that outlived its machine the guest's port follows, 4 bytes more.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// What came over the channel.
#[derive(Debug)]
pub(super) enum Message {
    /// Connect this stream to that guest port.
    Connect(u32, OwnedFd),
    /// Not a message of this protocol.
    Garbage,
    /// The other end is closed.
    End,
}

impl Channel {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Hands `stream` over, as what the guest connected to `port`. Does not wait.
    pub(super) fn send(&self, port: u32, stream: BorrowedFd<'_>) -> Result<(), Errno> {
        self.pass(&port.to_le_bytes(), stream)
    }

    /// Hands `stream` over, as what the guest had connected to `port` before it was saved.
    pub(super) fn send_survivor(
        &self,
        port: u32,
        guest_port: u32,
        stream: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        let ports = u64::from(port) | u64::from(guest_port) << 32;
        self.pass(&ports.to_le_bytes(), stream)
    }

    fn pass(&self, text: &[u8], stream: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let streams = [stream];
        ancillary.push(SendAncillaryMessage::ScmRights(&streams));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(&self.0, &[IoSlice::new(text)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes one message, if there is one.
    pub(super) fn receive(&self) -> Option<Message> {
        let mut port = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut port)],
                &mut ancillary,
                flags,
            ) {
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => return None,
                Err(_) => return Some(Message::End),
                Ok(received) => break received,
            }
        };
        let mut streams = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(streams) => Some(streams),
            _ => None,
        });
        let stream = streams.next().and_then(|mut streams| streams.next());
        Some(match (received.bytes, stream) {
            (4, Some(stream)) => Message::Connect(u32::from_le_bytes(port), stream),
            (0, None) => Message::End,
            _ => Message::Garbage,
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

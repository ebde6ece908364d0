//! One stream between a guest port and a host socket: credit both ways, halves that end on their own. Refuses to know of other
//! connections.
//!
//! Towards the guest nothing is buffered: data stays in the host's socket until the guest has both credit and a buffer for it.
//! Towards the host, what the socket does not take at once is kept, and the guest's credit bounds how much that can be.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use serde::{Deserialize, Serialize};

use super::packet::{HEADER, Header, Key, NO_RECEIVE, NO_SEND, operation};
use crate::DeviceError;
use crate::chain::{Reader, Writer};

/// Bytes a guest may send on a connection before the host has taken them: what is buffered for it at worst.
pub(super) const CAPACITY: u32 = 256 << 10;

/// Bytes copied at once into the buffer.
const PIECE: usize = 4096;

/// The guest did what the protocol does not allow; its connection is reset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation;

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// The guest has agreed to it.
    open: bool,
    /// The guest forgot it, while some of its data still waits for the host.
    pub(super) forgotten: bool,
    /// Is in the device's list of those that have something to say to the guest.
    pub(super) has_turn: bool,
    /// The watch tells when the socket can take more.
    pub(super) awaits_room: bool,
    to_host: ToHost,
    to_guest: ToGuest,
    /// Packets the guest has to get.
    due: Due,
}

/// From the guest to the host.
#[derive(Debug, Default)]
struct ToHost {
    /// What the socket has not taken yet.
    backlog: VecDeque<u8>,
    /// Bytes from the guest, modulo 2^32.
    received: u32,
    /// Bytes that left for the socket, modulo 2^32.
    forwarded: u32,
    /// `forwarded` as the guest last heard it.
    told: u32,
    /// The guest sends no more.
    ended: bool,
    /// The socket takes no more; data is dropped.
    refused: bool,
    /// The socket has been told that the guest sends no more.
    closed: bool,
}

/// From the host to the guest.
#[derive(Debug, Default)]
struct ToGuest {
    /// Bytes the guest can buffer.
    capacity: u32,
    /// Bytes the guest has taken out of its buffer, modulo 2^32.
    forwarded: u32,
    /// Bytes sent to the guest, modulo 2^32.
    sent: u32,
    /// The socket may have data or its end.
    readable: bool,
    /// The socket's other end sends no more, perhaps after some data.
    ending: bool,
    /// ... and takes no more either.
    hung_up: bool,
    /// The host sends no more, and all it sent is with the guest.
    ended: bool,
    /// The guest takes no more.
    refused: bool,
}

#[derive(Debug, Default)]
struct Due {
    request: bool,
    response: bool,
    credit: bool,
    shutdown: bool,
}

/// What both sides have counted on a connection where nothing is under way: credit goes on from there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Credit {
    received: u32,
    told: u32,
    capacity: u32,
    taken: u32,
    sent: u32,
}

impl Connection {
    /// Its numbers, if it is open both ways and neither side owes the other anything.
    pub(super) fn credit_at_rest(&self) -> Option<Credit> {
        let (to_host, to_guest) = (&self.to_host, &self.to_guest);
        let open = self.open && !self.forgotten && !to_host.ended && !to_host.refused;
        let open = open && !to_guest.ended && !to_guest.refused && !to_guest.ending;
        let idle = to_host.forwarded == to_host.received && !self.has_news() && self.is_drained();
        (open && idle).then_some(Credit {
            received: to_host.received,
            told: to_host.told,
            capacity: to_guest.capacity,
            taken: to_guest.forwarded,
            sent: to_guest.sent,
        })
    }

    /// Whether the socket has neither data nor its end for the guest, heard of or not.
    fn is_drained(&self) -> bool {
        let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(&self.socket, &mut [0][..], look), Err(Errno::AGAIN))
    }

    /// One that was at rest, with another socket.
    pub(super) fn revived(socket: OwnedFd, credit: Credit) -> Self {
        let mut connection = Self::new(socket);
        connection.open = true;
        connection.to_host.received = credit.received;
        connection.to_host.forwarded = credit.received;
        connection.to_host.told = credit.told;
        connection.to_guest.capacity = credit.capacity;
        connection.to_guest.forwarded = credit.taken;
        connection.to_guest.sent = credit.sent;
        connection
    }

    /// The guest asked for it, with this header; it gets a response.
    pub(super) fn accepted(socket: OwnedFd, header: &Header) -> Self {
        let mut connection = Self::new(socket);
        connection.open = true;
        connection.due.response = true;
        connection.hear(header);
        connection
    }

    /// The host asks for it; the guest gets a request.
    pub(super) fn requested(socket: OwnedFd) -> Self {
        let mut connection = Self::new(socket);
        connection.due.request = true;
        connection
    }

    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            open: false,
            forgotten: false,
            has_turn: false,
            awaits_room: false,
            to_host: ToHost::default(),
            to_guest: ToGuest::default(),
            due: Due::default(),
        }
    }

    /// Takes note of the guest's credit, which every packet carries.
    pub(super) fn hear(&mut self, header: &Header) {
        self.to_guest.capacity = header.capacity;
        self.to_guest.forwarded = header.forwarded;
    }

    /// The guest agrees to a connection the host asked for.
    pub(super) fn respond(&mut self) -> Result<(), Violation> {
        match self.open || self.due.request {
            true => Err(Violation),
            false => {
                self.open = true;
                Ok(())
            }
        }
    }

    pub(super) fn owe_credit(&mut self) {
        self.due.credit = true;
    }

    /// Whether there is something for the guest that it can take.
    pub(super) fn has_news(&self) -> bool {
        let Due {
            request,
            response,
            credit,
            shutdown,
        } = self.due;
        !self.forgotten && (request || response || credit || shutdown || self.may_read())
    }

    fn may_read(&self) -> bool {
        let side = &self.to_guest;
        self.open && side.readable && !side.ended && !side.refused && self.credit() != 0
    }

    /// Bytes the guest has room for.
    fn credit(&self) -> u32 {
        let side = &self.to_guest;
        (side.capacity).saturating_sub(side.sent.wrapping_sub(side.forwarded))
    }

    /// Whether the socket left some of the guest's data waiting.
    pub(super) fn has_backlog(&self) -> bool {
        !self.to_host.backlog.is_empty()
    }

    /// Whether the guest is through with it in both directions, and its data with the host.
    pub(super) fn is_over(&self) -> bool {
        self.to_host.ended && self.to_guest.refused && !self.has_backlog()
    }

    /// The guest sends `length` bytes, or as many as `data` has.
    pub(super) fn take(&mut self, data: &mut Reader<'_>, length: u32) -> Result<(), Violation> {
        let side = &mut self.to_host;
        let waiting = side.received.wrapping_sub(side.forwarded);
        let mut left = usize::try_from(length).map_err(|_| Violation)?;
        let fits = waiting
            .checked_add(length)
            .is_some_and(|sum| sum <= CAPACITY);
        if !self.open || side.ended || !fits || data.left() < left {
            return Err(Violation);
        }
        side.received = side.received.wrapping_add(length);
        while left != 0 && side.backlog.is_empty() && !side.refused {
            match data.send(self.socket.as_fd(), left) {
                Ok(done) => {
                    left = left.saturating_sub(done);
                    side.forward(done);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.due.shutdown |= side.refuse(),
            }
        }
        if side.refused {
            side.forwarded = side.received;
            left = 0;
        }
        let mut piece = [0; PIECE];
        while left != 0 {
            let piece = piece.get_mut(..left.min(PIECE)).unwrap_or_default();
            match data.read(piece) {
                0 => break,
                done => left = left.saturating_sub(done),
            }
            side.backlog.extend(&*piece);
        }
        self.due.credit |= side.should_tell();
        Ok(())
    }

    /// The socket can take more of the backlog.
    pub(super) fn flush(&mut self) {
        let side = &mut self.to_host;
        while let (front, _) = side.backlog.as_slices()
            && !front.is_empty()
        {
            match send(
                &self.socket,
                front,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(done) => {
                    side.backlog.drain(..done.min(front.len()));
                    side.forward(done);
                }
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => break,
                Err(_) => self.due.shutdown |= side.refuse(),
            }
        }
        if side.backlog.is_empty() {
            // A connection that stalled once should not hold the memory for ever.
            side.backlog = VecDeque::new();
        }
        self.due.credit |= side.should_tell();
        self.close_socket();
    }

    /// The guest ends one direction or both.
    pub(super) fn shut(&mut self, flags: u32) {
        self.to_host.ended |= flags & NO_SEND != 0;
        if flags & NO_RECEIVE != 0 && !self.to_guest.refused {
            self.to_guest.refused = true;
            // Fails only if the other end is gone, who then needs no telling.
            let _ = shutdown(&self.socket, Shutdown::Read);
            self.hear_hang_up();
        }
        self.close_socket();
    }

    fn close_socket(&mut self) {
        let side = &mut self.to_host;
        if side.ended && side.backlog.is_empty() && !side.closed {
            side.closed = true;
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// The socket has something to read; its other end may have ended (`ending`), or be gone altogether (`hung_up`).
    pub(super) fn wake(&mut self, ending: bool, hung_up: bool) {
        let side = &mut self.to_guest;
        side.readable = true;
        side.ending |= ending || hung_up;
        side.hung_up |= hung_up;
        self.hear_hang_up();
    }

    /// A host that hung up takes nothing more, which the guest learns after the last data, if it wants that.
    fn hear_hang_up(&mut self) {
        let side = &self.to_guest;
        if side.hung_up && (side.ended || side.refused) {
            self.due.shutdown |= self.to_host.refuse();
        }
    }

    /// Writes the packet that is most urgent, its header to `front` and its data to `to`, and gives its length; `None`
    /// if there is none, and then nothing is written.
    pub(super) fn speak(
        &mut self,
        key: Key,
        guest_cid: u64,
        front: &mut Writer<'_>,
        to: &mut Writer<'_>,
    ) -> Result<Option<usize>, DeviceError> {
        let mut length = 0;
        let (operation, flags) = if std::mem::take(&mut self.due.request) {
            (operation::REQUEST, 0)
        } else if std::mem::take(&mut self.due.response) {
            (operation::RESPONSE, 0)
        } else if let Some(done) = self.read(to) {
            length = done;
            (operation::RW, 0)
        } else if std::mem::take(&mut self.due.shutdown) {
            let no_send = if self.to_guest.ended { NO_SEND } else { 0 };
            let no_receive = if self.to_host.refused { NO_RECEIVE } else { 0 };
            (operation::SHUTDOWN, no_send | no_receive)
        } else if self.due.credit {
            (operation::CREDIT_UPDATE, 0)
        } else {
            return Ok(None);
        };
        // Every packet tells the guest its credit.
        self.due.credit = false;
        self.to_host.told = self.to_host.forwarded;
        let header = Header {
            length: short(length),
            operation,
            flags,
            capacity: CAPACITY,
            forwarded: self.to_host.forwarded,
            ..Header::to_guest(key, guest_cid)
        };
        header.write(front)?;
        Ok(Some(HEADER.saturating_add(length)))
    }

    /// Moves data from the socket to the guest, straight into its memory.
    fn read(&mut self, to: &mut Writer<'_>) -> Option<usize> {
        if !self.may_read() {
            return None;
        }
        let credit = usize::try_from(self.credit()).unwrap_or(usize::MAX);
        let room = to.left().min(credit);
        let side = &mut self.to_guest;
        match to.receive(self.socket.as_fd(), room) {
            Ok(done) if done != 0 => {
                // It was all there is, unless the end is still to come.
                side.readable = done == room || side.ending;
                side.sent = side.sent.wrapping_add(short(done));
                return Some(done);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => side.readable = false,
            // The end, orderly or not.
            Ok(_) | Err(_) => {
                (side.readable, side.ended) = (false, true);
                self.due.shutdown = true;
                self.hear_hang_up();
            }
        }
        None
    }
}

impl ToHost {
    fn forward(&mut self, length: usize) {
        self.forwarded = self.forwarded.wrapping_add(short(length));
    }

    /// The socket takes no more: drops what waits. Whether that is news.
    fn refuse(&mut self) -> bool {
        self.forwarded = self.received;
        self.backlog.clear();
        !std::mem::replace(&mut self.refused, true)
    }

    /// Whether the guest, who may send more, believes that less than half of its credit is left, and it is more.
    fn should_tell(&self) -> bool {
        let believed = CAPACITY.saturating_sub(self.received.wrapping_sub(self.told));
        !self.ended && self.forwarded != self.told && believed < CAPACITY / 2
    }
}

/// A length that credit already bounds.
fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

//! The socket device (virtio 1.2 §5.10), stream sockets only: every connection is a Unix socket on the host. Refuses to know
//! who listens: ends of streams come and go over one channel to the launcher.

mod channel;
mod connection;
mod packet;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use self::channel::{Channel, Message};
use self::connection::{Connection, Violation};
use self::packet::{
    HEADER, HOST_CID, Header, Key, NO_RECEIVE, NO_SEND, PORT_ANY, STREAM, TRANSPORT_RESET,
    operation,
};
pub use self::state::VsockState;
use crate::chain::{Chain, Reader};
use crate::device::{Io, Served, VirtioDevice};
use crate::poll::Watch;
use crate::{DeviceError, StateError};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENT: usize = 2;

/// Most connections at a time. Each may cost `connection::CAPACITY` bytes of buffer at worst.
pub const MOST_CONNECTIONS: usize = 128;

/// With so many resets waiting for buffers of the guest, its packets wait too.
const MOST_RESETS: usize = 64;

/// Where the host's ports begin for connections that it asks for.
const FIRST_PORT: u32 = 1 << 30;

/// Mark of the channel among the watched descriptors; no key of a connection, for that has no port "any".
const CHANNEL: u64 = u64::MAX;

/// `VIRTIO_VSOCK_F_STREAM`
const F_STREAM: u64 = 1;

/// Watched for by every connection. On edges: a connection that has to wait for the guest must not keep the device awake.
const AWAKE: EventFlags = (EventFlags::IN)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// The guest's end of all its stream sockets.
#[derive(Debug)]
pub struct Vsock {
    guest_cid: u64,
    channel: Channel,
    watch: Watch,
    /// There may be messages in the channel.
    channel_ready: bool,
    said_hung_up: bool,
    connections: BTreeMap<Key, Connection>,
    /// Connections that have something for the guest, in the order in which they get their turn.
    turns: VecDeque<Key>,
    /// Connections the guest has to forget.
    resets: VecDeque<Key>,
    /// The transmit queue was left waiting for room in `resets`.
    transmit_waits: bool,
    next_port: u32,
    /// The guest has to hear that all connections are gone.
    must_announce: bool,
    /// No connection outlives a save.
    drops_survivors: bool,
}

/// A stream's two ends.
fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    Ok(socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

impl Vsock {
    /// A device with the guest's context id (3 or more), and the channel to the launcher: a connected `SOCK_SEQPACKET` socket.
    /// A message is a port (4 bytes, little-endian) with one descriptor, the end of a stream: from the device, what the guest
    /// connected to that port of the host; to the device, what it shall connect to that port of the guest. A device that is
    /// restored first hands over the connections that outlived the save; in their messages the guest's port follows (4 bytes).
    ///
    /// # Errors
    /// Those of `epoll_create` and `epoll_ctl`.
    pub fn new(guest_cid: u32, channel: OwnedFd) -> io::Result<Self> {
        let watch = Watch::new()?;
        watch.add(&channel, CHANNEL, AWAKE)?;
        Ok(Self {
            guest_cid: guest_cid.into(),
            channel: Channel::new(channel),
            watch,
            channel_ready: false,
            said_hung_up: false,
            connections: BTreeMap::new(),
            turns: VecDeque::new(),
            resets: VecDeque::new(),
            transmit_waits: false,
            next_port: FIRST_PORT,
            must_announce: false,
            drops_survivors: false,
        })
    }

    /// The same, but a restore hands no connection over: the guest hears that all are gone, and may make new ones.
    #[must_use]
    pub fn without_survivors(mut self) -> Self {
        self.drops_survivors = true;
        self
    }

    /// Does whatever can be done now.
    fn advance(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        if self.must_announce {
            io.serve(EVENT, |chain| {
                if !std::mem::take(&mut self.must_announce) {
                    return Ok(Served::Later);
                }
                chain.writable.write_all(&TRANSPORT_RESET)?;
                Ok(Served::Done(4))
            })?;
        }
        self.connect(io);
        if !self.resets.is_empty() || !self.turns.is_empty() {
            io.serve(RECEIVE, |chain| self.speak(chain))?;
        }
        if self.transmit_waits && self.resets.len() < MOST_RESETS {
            self.transmit(io)?;
        }
        Ok(())
    }

    fn transmit(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        self.transmit_waits = false;
        io.serve(TRANSMIT, |chain| {
            if self.resets.len() >= MOST_RESETS {
                self.transmit_waits = true;
                return Ok(Served::Later);
            }
            let header = Header::read(&mut chain.readable)?;
            self.hear(&header, &mut chain.readable);
            Ok(Served::Done(0))
        })
    }

    /// Fills one of the guest's buffers.
    fn speak(&mut self, chain: &mut Chain<'_>) -> Result<Served, DeviceError> {
        let mut front = chain.writable.split_off(HEADER)?;
        if chain.writable.left() == 0 {
            // It could never take any data.
            return Err(DeviceError::RequestTooShort);
        }
        if let Some(key) = self.resets.pop_front() {
            Header::to_guest(key, self.guest_cid).write(&mut front)?;
            return Ok(Served::Done(HEADER));
        }
        while let Some(key) = self.turns.pop_front() {
            let Some(connection) = self.connections.get_mut(&key) else {
                continue;
            };
            connection.has_turn = false;
            let said = connection.speak(key, self.guest_cid, &mut front, &mut chain.writable)?;
            self.settle(key);
            if let Some(length) = said {
                return Ok(Served::Done(length));
            }
        }
        Ok(Served::Later)
    }

    fn hear(&mut self, header: &Header, data: &mut Reader<'_>) {
        if header.source_cid != self.guest_cid || header.target_cid != HOST_CID {
            return;
        }
        let key = header.key();
        let Some(connection) = self.connections.get_mut(&key) else {
            return match (header.operation, header.kind) {
                (operation::RST, _) => (),
                (operation::REQUEST, STREAM) if key.is_possible() => self.accept(key, header),
                _ => self.refuse(key),
            };
        };
        if header.operation == operation::RST {
            connection.forgotten = true;
            connection.shut(NO_RECEIVE | NO_SEND);
            return self.settle(key);
        }
        if connection.forgotten {
            return self.refuse(key);
        }
        connection.hear(header);
        let result = match header.operation {
            _ if header.kind != STREAM => Err(Violation),
            operation::RESPONSE => connection.respond(),
            operation::RW => connection.take(data, header.length),
            operation::SHUTDOWN => {
                connection.shut(header.flags);
                Ok(())
            }
            operation::CREDIT_UPDATE => Ok(()),
            operation::CREDIT_REQUEST => {
                connection.owe_credit();
                Ok(())
            }
            _ => Err(Violation),
        };
        match result {
            Ok(()) => self.settle(key),
            Err(Violation) => self.drop_connection(key),
        }
    }

    /// The guest asks for a connection to a port of the host: the launcher gets the other end.
    fn accept(&mut self, key: Key, header: &Header) {
        let accepted = self.room().and_then(|()| {
            let (ours, theirs) = stream_pair()?;
            self.watch.add(&ours, key.mark(), AWAKE)?;
            self.channel.send(key.host_port, theirs.as_fd())?;
            Ok(ours)
        });
        match accepted {
            Ok(socket) => {
                self.connections
                    .insert(key, Connection::accepted(socket, header));
                self.settle(key);
            }
            Err(_) => self.refuse(key),
        }
    }

    /// The launcher asks for connections to ports of the guest.
    fn connect(&mut self, io: &Io<'_>) {
        while self.channel_ready && io.is_live() && self.room().is_ok() {
            match self.channel.receive() {
                None => self.channel_ready = false,
                Some(Message::Garbage) => (),
                Some(Message::End) => {
                    self.channel_ready = false;
                    self.hang_up(io);
                }
                Some(Message::Connect(guest_port, socket)) => {
                    let key = self.free_key(guest_port);
                    // A stream that cannot be watched is dropped: its other end reads the end at once.
                    if key.is_possible() && self.watch.add(&socket, key.mark(), AWAKE).is_ok() {
                        self.connections.insert(key, Connection::requested(socket));
                        self.settle(key);
                    }
                }
            }
        }
    }

    fn hang_up(&mut self, io: &Io<'_>) {
        if !std::mem::replace(&mut self.said_hung_up, true) {
            io.hung_up();
        }
    }

    fn room(&self) -> io::Result<()> {
        match self.connections.len() < MOST_CONNECTIONS {
            true => Ok(()),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }

    /// The next port of the host that has no connection to `guest_port`.
    fn free_key(&mut self, guest_port: u32) -> Key {
        loop {
            let host_port = self.next_port;
            self.next_port = match host_port.checked_add(1) {
                Some(next) if next != PORT_ANY => next,
                _ => FIRST_PORT,
            };
            let key = Key {
                guest_port,
                host_port,
            };
            if !self.connections.contains_key(&key) {
                return key;
            }
        }
    }

    /// After every change of a connection: gives it a turn, watches for room, or ends it.
    fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if connection.is_over() {
            return match connection.forgotten {
                true => self.remove(key),
                false => self.drop_connection(key),
            };
        }
        if connection.awaits_room != connection.has_backlog() {
            connection.awaits_room = connection.has_backlog();
            let room = match connection.awaits_room {
                true => EventFlags::OUT,
                false => EventFlags::empty(),
            };
            // It is watched already, so this cannot fail but for want of kernel memory; then the next packet tries again.
            let changed = self.watch.change(&*connection, key.mark(), AWAKE | room);
            if changed.is_err() {
                connection.awaits_room = !connection.awaits_room;
            }
        }
        if connection.has_news() && !std::mem::replace(&mut connection.has_turn, true) {
            self.turns.push_back(key);
        }
        debug_assert!(self.turns.len() <= self.connections.len());
    }

    fn drop_connection(&mut self, key: Key) {
        self.remove(key);
        self.refuse(key);
    }

    fn remove(&mut self, key: Key) {
        self.connections.remove(&key);
        // Else a guest that opens and resets, and never receives, would make the list grow.
        self.turns.retain(|&other| other != key);
    }

    fn refuse(&mut self, key: Key) {
        self.resets.push_back(key);
    }
}

impl VirtioDevice for Vsock {
    const ID: u32 = 19;
    const NAME: &'static str = "vsock";
    const KERNEL: &'static str = "CONFIG_VIRTIO_VSOCKETS";
    /// Linux fills the whole receive queue with buffers of a page when it boots, so that one is short.
    const QUEUES: &'static [u16] = &[32, 64, 4];
    type State = VsockState;

    fn features(&self) -> u64 {
        F_STREAM
    }

    fn config(&self) -> impl AsRef<[u8]> {
        self.guest_cid.to_le_bytes()
    }

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        if queue == TRANSMIT {
            self.transmit(io)?;
        }
        self.advance(io)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.as_fd())
    }

    fn host_ready(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        for (mark, events) in self.watch.take().map_err(io::Error::from)? {
            let hung_up = events.intersects(EventFlags::HUP | EventFlags::ERR);
            if mark == CHANNEL {
                self.channel_ready = true;
                if hung_up {
                    self.hang_up(io);
                }
                continue;
            }
            let key = Key::of_mark(mark);
            let Some(connection) = self.connections.get_mut(&key) else {
                continue;
            };
            if events.contains(EventFlags::OUT) {
                connection.flush();
            }
            if events.intersects(EventFlags::IN | EventFlags::RDHUP) || hung_up {
                connection.wake(events.contains(EventFlags::RDHUP), hung_up);
            }
            self.settle(key);
        }
        self.advance(io)
    }

    fn reset(&mut self) {
        self.connections.clear();
        self.turns.clear();
        self.resets.clear();
        self.transmit_waits = false;
        self.must_announce = false;
    }

    fn save(&self) -> VsockState {
        let busy = self.must_announce || !self.resets.is_empty();
        VsockState::of(self.guest_cid, &self.connections, busy)
    }

    fn restore(&mut self, state: VsockState) -> Result<(), StateError> {
        let state = match self.drops_survivors {
            true => state.without_connections(),
            false => state,
        };
        match state.revive(self.guest_cid, &self.watch, &self.channel)? {
            Some(connections) => self.connections = connections,
            None => self.must_announce = true,
        }
        Ok(())
    }
}

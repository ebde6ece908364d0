//! The network card (virtio 1.2 §5.1): one pair of queues, buffers that are merged, checksums and segments left to whoever is at
//! the other end of the cable. Refuses to know what is in a frame.

#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;

use crate::device::{Frame, Frames, Io, Served, VirtioDevice};
use crate::{DeviceError, Reader, StateError, Writer};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Length of the header before each frame (virtio 1.2 §5.1.6).
pub const HEADER: usize = 12;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_TCPV6`
const SEGMENTS_V4: u8 = 1;
const SEGMENTS_V6: u8 = 4;

/// `VIRTIO_NET_F_CSUM`, `GUEST_CSUM`, `MAC`, `GUEST_TSO4`, `GUEST_TSO6`, `HOST_TSO4`, `HOST_TSO6`, `MRG_RXBUF`
const CHECKSUM: u64 = 1 << 0;
const GUEST_CHECKSUM: u64 = 1 << 1;
const MAC: u64 = 1 << 5;
const GUEST_SEGMENTS: u64 = 1 << 7 | 1 << 8;
const SEGMENTS: u64 = 1 << 11 | 1 << 12;
const MERGE: u64 = 1 << 15;

/// What the guest's kernel leaves to the other end, and can be left to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// It takes frames whose checksum is not complete.
    pub checksum: bool,
    /// It takes TCP in pieces of up to 64 KiB.
    pub segments: bool,
}

/// A frame that was written for the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Its bytes.
    pub length: usize,
    /// Where the bytes begin that its checksum does not cover yet, and where from there the checksum is.
    pub checksum: Option<(u16, u16)>,
    /// It is TCP to be seen as pieces of this many bytes, behind headers of so many; over IPv6?
    pub segments: Option<(u16, u16, bool)>,
}

/// The other end of the cable.
pub trait Link: Send + 'static {
    /// Readable when there is something to do. The same one for the link's whole life.
    fn fd(&self) -> BorrowedFd<'_>;

    /// [`fd`](Self::fd) is readable.
    fn ready(&mut self);

    /// Whether the guest may send a frame now. If not, [`fd`](Self::fd) is readable once it may.
    fn may_transmit(&mut self) -> bool;

    /// The guest sends a frame. Its header is as the guest wrote it.
    fn transmit(&mut self, header: [u8; HEADER], frame: Reader<'_>);

    /// How long the next frame for the guest may be: at least, at most. `None`: there is none.
    fn next(&mut self, offload: Offload) -> Option<(usize, usize)>;

    /// Writes the next frame. `None` if there was none after all, or no room for it.
    fn receive(&mut self, room: &mut Writer<'_>, offload: Offload) -> Option<Received>;

    /// Forgets all that the guest began. May be called by any thread.
    fn reset(&mut self);
}

/// A network card with its cable.
#[derive(Debug)]
pub struct Net<L> {
    link: L,
    mac: [u8; 6],
    /// The guest may have frames that it may not send yet.
    held: bool,
}

impl<L: Link> Net<L> {
    /// A card of this hardware address.
    pub fn new(link: L, mac: [u8; 6]) -> Self {
        let held = false;
        Self { link, mac, held }
    }

    fn transmit(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        self.held = false;
        io.serve(TRANSMIT, |chain| {
            if !self.link.may_transmit() {
                self.held = true;
                return Ok(Served::Later);
            }
            let mut frame = std::mem::take(&mut chain.readable);
            let header = frame.read_array()?;
            self.link.transmit(header, frame);
            Ok(Served::Done(0))
        })
    }

    fn receive(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        let features = io.features();
        let offload = Offload {
            checksum: features & GUEST_CHECKSUM != 0,
            segments: features & GUEST_SEGMENTS == GUEST_SEGMENTS,
        };
        let link = &mut self.link;
        io.fill(RECEIVE, features & MERGE != 0, &mut Cable { link, offload })
    }
}

/// The link, as frames with their headers.
struct Cable<'l, L> {
    link: &'l mut L,
    offload: Offload,
}

impl<L: Link> Frames for Cable<'_, L> {
    fn next(&mut self) -> Option<(usize, usize)> {
        let (least, most) = self.link.next(self.offload)?;
        Some((least.saturating_add(HEADER), most.saturating_add(HEADER)))
    }

    fn write<'m>(&mut self, room: &mut Writer<'m>) -> Result<Option<Frame<'m>>, DeviceError> {
        let mut header = room.split_off(HEADER)?;
        let Some(received) = self.link.receive(room, self.offload) else {
            return Ok(None);
        };
        let flags = received.checksum.map_or(0, |_| NEEDS_CHECKSUM);
        let (start, offset) = received.checksum.unwrap_or_default();
        let (size, headers, v6) = received.segments.unwrap_or_default();
        let kind = match (received.segments, v6) {
            (None, _) => 0,
            (Some(_), false) => SEGMENTS_V4,
            (Some(_), true) => SEGMENTS_V6,
        };
        header.write(&[flags, kind]);
        for field in [headers, size, start, offset] {
            header.write(&field.to_le_bytes());
        }
        Ok(Some(Frame {
            length: received.length.saturating_add(HEADER),
            count: header,
        }))
    }
}

impl<L: Link> VirtioDevice for Net<L> {
    const ID: u32 = 1;
    const NAME: &'static str = "net";
    const KERNEL: &'static str = "CONFIG_VIRTIO_NET";
    const QUEUES: &'static [u16] = &[256, 256];
    /// Connections are the host's, and end with the machine: whoever goes on elsewhere finds them reset.
    type State = ();

    fn features(&self) -> u64 {
        CHECKSUM | GUEST_CHECKSUM | MAC | GUEST_SEGMENTS | SEGMENTS | MERGE
    }

    fn config(&self) -> impl AsRef<[u8]> {
        self.mac
    }

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        if queue == TRANSMIT {
            self.transmit(io)?;
        }
        self.receive(io)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.fd())
    }

    fn host_ready(&mut self, io: &mut Io<'_>) -> Result<(), DeviceError> {
        self.link.ready();
        if self.held {
            self.transmit(io)?;
        }
        self.receive(io)
    }

    fn reset(&mut self) {
        self.held = false;
        self.link.reset();
    }

    fn save(&self) -> Self::State {}

    fn restore(&mut self, (): Self::State) -> Result<(), StateError> {
        Ok(())
    }
}

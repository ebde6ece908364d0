//! Header of a vsock packet (virtio 1.2 §5.10.6), 44 bytes, and the name of the connection it is for. Refuses to know
//! what state that is in.

use crate::DeviceError;
use crate::chain::{Reader, Writer};

/// Length of a header in bytes.
pub(super) const HEADER: usize = 44;

/// The host's context id.
pub(super) const HOST_CID: u64 = 2;

/// `VMADDR_PORT_ANY`: no port.
pub(super) const PORT_ANY: u32 = u32::MAX;

/// Type of a stream socket.
pub(super) const STREAM: u16 = 1;

/// Operations.
pub(super) mod operation {
    pub(in super::super) const REQUEST: u16 = 1;
    pub(in super::super) const RESPONSE: u16 = 2;
    pub(in super::super) const RST: u16 = 3;
    pub(in super::super) const SHUTDOWN: u16 = 4;
    pub(in super::super) const RW: u16 = 5;
    pub(in super::super) const CREDIT_UPDATE: u16 = 6;
    pub(in super::super) const CREDIT_REQUEST: u16 = 7;
}

/// Flag of a shutdown: the sender of the packet will not receive any more.
pub(super) const NO_RECEIVE: u32 = 1;
/// Flag of a shutdown: the sender of the packet will not send any more.
pub(super) const NO_SEND: u32 = 2;

/// Name of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) guest_port: u32,
    pub(super) host_port: u32,
}

impl Key {
    pub(super) fn is_possible(self) -> bool {
        self.guest_port != PORT_ANY && self.host_port != PORT_ANY
    }

    pub(super) fn mark(self) -> u64 {
        u64::from(self.guest_port) << 32 | u64::from(self.host_port)
    }

    pub(super) fn of_mark(mark: u64) -> Self {
        let [h0, h1, h2, h3, g0, g1, g2, g3] = mark.to_le_bytes();
        Self {
            guest_port: u32::from_le_bytes([g0, g1, g2, g3]),
            host_port: u32::from_le_bytes([h0, h1, h2, h3]),
        }
    }
}

/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`, all of the event: all connections are gone.
pub(super) const TRANSPORT_RESET: [u8; 4] = 0_u32.to_le_bytes();

/// What a packet says before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) target_cid: u64,
    pub(super) source_port: u32,
    pub(super) target_port: u32,
    /// Bytes of data that follow.
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) operation: u16,
    pub(super) flags: u32,
    /// Bytes the sender of the packet can buffer for the connection.
    pub(super) capacity: u32,
    /// Bytes the sender of the packet has taken out of its buffer so far, modulo 2^32.
    pub(super) forwarded: u32,
}

impl Header {
    /// A packet on connection `key` that says nothing yet.
    pub(super) fn to_guest(key: Key, guest_cid: u64) -> Self {
        Self {
            source_cid: HOST_CID,
            target_cid: guest_cid,
            source_port: key.host_port,
            target_port: key.guest_port,
            length: 0,
            kind: STREAM,
            operation: operation::RST,
            flags: 0,
            capacity: 0,
            forwarded: 0,
        }
    }

    /// The connection a packet from the guest is for.
    pub(super) fn key(&self) -> Key {
        Key {
            guest_port: self.source_port,
            host_port: self.target_port,
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, DeviceError> {
        Ok(Self {
            source_cid: u64::from_le_bytes(from.read_array()?),
            target_cid: u64::from_le_bytes(from.read_array()?),
            source_port: u32::from_le_bytes(from.read_array()?),
            target_port: u32::from_le_bytes(from.read_array()?),
            length: u32::from_le_bytes(from.read_array()?),
            kind: u16::from_le_bytes(from.read_array()?),
            operation: u16::from_le_bytes(from.read_array()?),
            flags: u32::from_le_bytes(from.read_array()?),
            capacity: u32::from_le_bytes(from.read_array()?),
            forwarded: u32::from_le_bytes(from.read_array()?),
        })
    }

    pub(super) fn write(&self, to: &mut Writer<'_>) -> Result<(), DeviceError> {
        let fields: [&[u8]; 10] = [
            &self.source_cid.to_le_bytes(),
            &self.target_cid.to_le_bytes(),
            &self.source_port.to_le_bytes(),
            &self.target_port.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.operation.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.capacity.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ];
        let mut bytes = [0; HEADER];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        to.write_all(&bytes)
    }
}

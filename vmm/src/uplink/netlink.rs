//! What is asked of the kernel about network devices (rtnetlink(7)), in the namespace of the thread that asks. Refuses to know
//! what they are for.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Messages, their flags and attributes (linux/rtnetlink.h, linux/netlink.h).
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_QUEUE: u16 = 36;
const NEW_FILTER: u16 = 44;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const UP: u32 = 1;
/// Traffic control (linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h): attributes of queues and
/// filters, of the filter that takes everything, and of actions.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const ALL_ACTIONS: u16 = 2;
const FIRST: u16 = 1;
const ACTION_KIND: u16 = 1;
const ACTION_OPTIONS: u16 = 2;
const MIRRED: u16 = 2;
/// Where packets arrive, and the number of what is there.
const INGRESS: u32 = 0xffff_fff1;
const ARRIVALS: u32 = 0xffff_0000;
/// The first filter, for all protocols (`ETH_P_ALL` in network order).
const FIRST_OF_ALL: u32 = 1 << 16 | 0x0300;
/// `TC_ACT_STOLEN`, `TCA_EGRESS_REDIR`
const STOLEN: i32 = 4;
const REDIRECT: i32 = 1;
/// Bytes of a message's header, and of a device's (`struct ifinfomsg`).
const HEADER: usize = 16;
const LINK: usize = 16;
/// Room for an answer.
const ROOM: usize = 32 << 10;

/// A network device.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Device {
    pub(super) index: i32,
    pub(super) up: bool,
    /// Bytes of its largest packet.
    pub(super) mtu: u32,
    /// Its hardware address, if that is Ethernet's.
    pub(super) mac: [u8; 6],
}

/// A line to the kernel.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// To the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Self(socket))
    }

    /// The device of this name.
    pub(super) fn device(&self, name: &str) -> io::Result<Device> {
        let mut attributes = Vec::new();
        attribute(
            &mut attributes,
            LINK_NAME,
            &[name.as_bytes(), &[0]].concat(),
        );
        let answer = self.ask(GET_LINK, 0, &link(0, 0), &attributes)?;
        let body = answer.get(HEADER..).unwrap_or_default();
        let word = |at: usize| body.get(at..)?.first_chunk().copied();
        let index = word(4).map(i32::from_ne_bytes).ok_or_else(odd)?;
        let mut device = Device {
            index,
            up: word(8).map(u32::from_ne_bytes).ok_or_else(odd)? & UP != 0,
            ..Device::default()
        };
        for (kind, value) in attributes_of(body.get(LINK..).unwrap_or_default()) {
            match (kind, value.len()) {
                (LINK_MTU, 4) => {
                    device.mtu = value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
                }
                (LINK_ADDRESS, 6) => device.mac.copy_from_slice(value),
                _ => {}
            }
        }
        Ok(device)
    }

    /// Has a device carry packets.
    pub(super) fn bring_up(&self, device: &Device) -> io::Result<()> {
        self.order(NEW_LINK, 0, &link(device.index, UP), &[])
    }

    /// Sets the size of a device's largest packet.
    pub(super) fn set_mtu(&self, device: &Device, mtu: u32) -> io::Result<()> {
        let mut attributes = Vec::new();
        attribute(&mut attributes, LINK_MTU, &mtu.to_ne_bytes());
        self.order(NEW_LINK, 0, &link(device.index, 0), &attributes)
    }

    /// Has all that arrives at one device leave by another (tc-mirred(8)).
    pub(super) fn redirect(&self, from: &Device, to: &Device) -> io::Result<()> {
        let mut queue = Vec::new();
        attribute(&mut queue, KIND, b"ingress\0");
        let place = control(from.index, ARRIVALS, INGRESS, 0);
        self.order(NEW_QUEUE, CREATE | EXCLUSIVE, &place, &queue)?;
        // `struct tc_mirred`: number, capabilities, verdict, two counts, what to do, and where.
        let words = [0, 0, STOLEN, 0, 0, REDIRECT, to.index].map(i32::to_ne_bytes);
        let mut options = Vec::new();
        attribute(&mut options, MIRRED, words.as_flattened());
        let mut action = Vec::new();
        attribute(&mut action, ACTION_KIND, b"mirred\0");
        attribute(&mut action, ACTION_OPTIONS, &options);
        let (mut actions, mut all, mut filter) = (Vec::new(), Vec::new(), Vec::new());
        attribute(&mut actions, FIRST, &action);
        attribute(&mut all, ALL_ACTIONS, &actions);
        attribute(&mut filter, KIND, b"matchall\0");
        attribute(&mut filter, OPTIONS, &all);
        let place = control(from.index, 0, ARRIVALS, FIRST_OF_ALL);
        self.order(NEW_FILTER, CREATE | EXCLUSIVE, &place, &filter)
    }

    /// Sends a message that is answered by whether it was obeyed.
    fn order(&self, kind: u16, flags: u16, body: &[u8], attributes: &[u8]) -> io::Result<()> {
        self.ask(kind, flags | ACKNOWLEDGE, body, attributes)
            .map(drop)
    }

    /// Sends a message; the answer, which is not an error.
    fn ask(&self, kind: u16, flags: u16, body: &[u8], attributes: &[u8]) -> io::Result<Vec<u8>> {
        let length = HEADER + body.len() + attributes.len();
        let mut message = u32::try_from(length)
            .map_err(|_| odd())?
            .to_ne_bytes()
            .to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend([0; 8]);
        message.extend_from_slice(body);
        message.extend_from_slice(attributes);
        send(&self.0, &message, SendFlags::empty())?;
        let mut answer = vec![0; ROOM];
        let (length, _) = recv(&self.0, answer.as_mut_slice(), RecvFlags::empty())?;
        answer.truncate(length);
        let kind = answer.get(4..).and_then(<[u8]>::first_chunk);
        if kind.map(|kind| u16::from_ne_bytes(*kind)) == Some(ERROR) {
            let code = answer.get(HEADER..).and_then(<[u8]>::first_chunk);
            match code.map_or(0, |code| i32::from_ne_bytes(*code)) {
                0 => {}
                code => return Err(io::Error::from_raw_os_error(-code)),
            }
        }
        Ok(answer)
    }
}

/// An answer that is none.
fn odd() -> io::Error {
    ErrorKind::InvalidData.into()
}

/// `struct ifinfomsg`: these flags are set, no other is changed.
fn link(index: i32, flags: u32) -> [u8; LINK] {
    let mut body = [0; LINK];
    let words = [
        index.to_ne_bytes(),
        flags.to_ne_bytes(),
        flags.to_ne_bytes(),
    ];
    for (to, from) in body.iter_mut().skip(4).zip(words.as_flattened()) {
        *to = *from;
    }
    body
}

/// `struct tcmsg`
fn control(index: i32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut body = [0; 20];
    let words = [
        index.to_ne_bytes(),
        handle.to_ne_bytes(),
        parent.to_ne_bytes(),
        info.to_ne_bytes(),
    ];
    for (to, from) in body.iter_mut().skip(4).zip(words.as_flattened()) {
        *to = *from;
    }
    body
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn attributes_of(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1])).max(4);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), value))
    })
}

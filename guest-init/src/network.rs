//! The network card's addresses and routes, by netlink (rtnetlink(7)): two messages, two answers. Knows nothing of what is at the other
//! end of the cable.

use alloc::vec::Vec;

use protocol::{Address, Network, Route};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::failure::{SetupError, refused};

/// The card's name.
const NAME: &[u8] = b"eth0\0";

/// Messages, their flags and attributes (linux/rtnetlink.h, linux/netlink.h).
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const UP: u32 = 1;
/// `IFA_F_NODAD`
const NO_DUPLICATES: u8 = 2;
/// A route of the main table, made by an administrator; by a router, or on the link.
const ROUTE_BY_ROUTER: [u8; 4] = [254, 4, 0, 1];
const ROUTE_ON_LINK: [u8; 4] = [254, 4, 253, 1];

/// Room for the answers.
const ROOM: usize = 8192;

/// Brings the card up and gives it its addresses.
///
/// # Errors
/// There is no card, or the kernel refuses something of it.
pub fn configure(network: &Network) -> Result<(), SetupError> {
    let refused = refused("set the network card up");
    let (socket, index) = card().map_err(&refused)?;
    let mut messages = Messages::default();
    let mtu = network.mtu.to_ne_bytes();
    // The kernel sets both before it brings the card up.
    let attributes: [(u16, &[u8]); 2] = [(LINK_ADDRESS, &network.mac), (LINK_MTU, &mtu)];
    messages.add(NEW_LINK, ACKNOWLEDGE, &link(index, UP), &attributes);
    for v4 in [true, false] {
        let own = network.addresses.iter();
        for address in own.filter(|address| is_v4(&address.address) == v4) {
            messages.add_address(index, address);
        }
        let ways = network.routes.iter();
        for route in ways.filter(|route| is_v4(&route.destination) == v4) {
            messages.add_route(index, route);
        }
        if v4 {
            messages.required = messages.count;
        }
    }
    carry_out(&socket, &messages).map_err(refused)
}

fn is_v4(address: &[u8]) -> bool {
    address.len() == 4
}

fn family(address: &[u8]) -> u8 {
    let family = match is_v4(address) {
        true => AddressFamily::INET,
        false => AddressFamily::INET6,
    };
    family.as_raw().to_le_bytes()[0]
}

/// Gives the card another hardware address, in a copy of a machine that has used it.
///
/// # Errors
/// There is no card, or the kernel refuses the address.
pub fn set_hardware_address(mac: &[u8]) -> Result<(), SetupError> {
    let refused = refused("change the network card's address");
    let (socket, index) = card().map_err(&refused)?;
    let mut messages = Messages::default();
    messages.add(
        NEW_LINK,
        ACKNOWLEDGE,
        &link(index, 0),
        &[(LINK_ADDRESS, mac)],
    );
    messages.required = messages.count;
    carry_out(&socket, &messages).map_err(refused)
}

/// A netlink socket, and the card's number.
fn card() -> Result<(OwnedFd, i32), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let index = index(&socket)?;
    Ok((socket, index))
}

fn carry_out(socket: &OwnedFd, messages: &Messages) -> Result<(), Errno> {
    rustix::net::send(socket, &messages.bytes, SendFlags::empty())?;
    let mut left = messages.count;
    while left != 0 {
        for (number, error) in errors(&receive(socket)?) {
            left = left.saturating_sub(1);
            if number <= messages.required && error != 0 {
                return Err(Errno::from_raw_os_error(-error));
            }
        }
    }
    Ok(())
}

/// The card's number.
fn index(socket: &OwnedFd) -> Result<i32, Errno> {
    let mut messages = Messages::default();
    messages.add(GET_LINK, 0, &link(0, 0), &[(LINK_NAME, NAME)]);
    rustix::net::send(socket, &messages.bytes, SendFlags::empty())?;
    let answer = receive(socket)?;
    if let Some((_, error)) = errors(&answer).next() {
        return Err(Errno::from_raw_os_error(-error));
    }
    // After the message's header, family and kind.
    let index = answer.get(20..).and_then(<[u8]>::first_chunk);
    index
        .map(|bytes| i32::from_ne_bytes(*bytes))
        .ok_or(Errno::PROTO)
}

fn receive(socket: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = alloc::vec![0; ROOM];
    let (length, _) = rustix::net::recv(socket, bytes.as_mut_slice(), RecvFlags::empty())?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Which messages are answered by a code among these bytes, and the codes; 0 is success.
fn errors(mut bytes: &[u8]) -> impl Iterator<Item = (u32, i32)> {
    core::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*bytes.first_chunk()?);
            let length = usize::try_from(length).ok()?.max(16).next_multiple_of(4);
            let message = bytes.get(..length.min(bytes.len()))?;
            bytes = bytes.get(message.len()..)?;
            let field =
                |at: usize| -> Option<[u8; 4]> { message.get(at..)?.first_chunk().copied() };
            let [k0, k1, _, _] = field(4)?;
            if u16::from_ne_bytes([k0, k1]) == ERROR {
                return Some((
                    u32::from_ne_bytes(field(8)?),
                    i32::from_ne_bytes(field(16)?),
                ));
            }
        }
    })
}

/// `struct ifinfomsg`
fn link(index: i32, flags: u32) -> [u8; 16] {
    let mut body = [0; 16];
    let fields = [
        index.to_ne_bytes(),
        flags.to_ne_bytes(),
        flags.to_ne_bytes(),
    ];
    for (to, from) in body.iter_mut().skip(4).zip(fields.as_flattened()) {
        *to = *from;
    }
    body
}

#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    count: u32,
    /// Those up to this one must succeed: the link's and IPv4's. A kernel may have been told to do without IPv6.
    required: u32,
}

impl Messages {
    fn add_address(&mut self, index: i32, address: &Address) {
        // Whoever gave the address answers for it: nobody waits until it is known that nobody else has it.
        let family = family(&address.address);
        let mut body = [family, address.prefix, NO_DUPLICATES, 0].to_vec();
        body.extend(index.to_ne_bytes());
        let own: [(u16, &[u8]); 2] = [
            (ADDRESS_LOCAL, &address.address),
            (ADDRESS_ADDRESS, &address.address),
        ];
        self.add(NEW_ADDRESS, ACKNOWLEDGE | CREATE, &body, &own);
    }

    fn add_route(&mut self, index: i32, route: &Route) {
        let mut body = [family(&route.destination), route.prefix, 0, 0].to_vec();
        body.extend(match route.gateway.is_empty() {
            true => ROUTE_ON_LINK,
            false => ROUTE_BY_ROUTER,
        });
        body.extend([0; 4]);
        let index = index.to_ne_bytes();
        let all: [(u16, &[u8]); 3] = [
            (ROUTE_LINK, &index),
            (ROUTE_DESTINATION, &route.destination),
            (ROUTE_GATEWAY, &route.gateway),
        ];
        // Everywhere has no destination, and the link no router.
        let said = |(kind, value): &(u16, &[u8])| match *kind {
            ROUTE_DESTINATION => route.prefix != 0,
            _ => !value.is_empty(),
        };
        let said: Vec<_> = all.into_iter().filter(said).collect();
        self.add(NEW_ROUTE, ACKNOWLEDGE | CREATE, &body, &said);
    }

    /// Appends a message, numbered from 1 on.
    fn add(&mut self, kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) {
        self.count = self.count.saturating_add(1);
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(body);
        for (kind, value) in attributes {
            let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
            self.bytes.extend(length.to_ne_bytes());
            self.bytes.extend(kind.to_ne_bytes());
            self.bytes.extend(*value);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

//! Who has a port: a container, or a process, as far as this user is shown whose sockets are whose (proc(5)).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use network::Transport;

use super::{BindError, Bound};
use crate::container::Container;
use crate::failure::escaped;

/// The state of a TCP socket that listens.
const LISTENS: &str = "0A";

/// What to tell the user of a port that `container` could not have.
pub(crate) fn hint(error: &BindError, container: &Container) -> Option<String> {
    if !error.taken {
        return None;
    }
    let siblings = container.siblings().unwrap_or_default();
    let others = siblings
        .iter()
        .filter(|one| one.config.id != container.config.id);
    let mut all = others.flat_map(|one| one.state().bound().into_iter().map(move |b| (one, b)));
    let holder = all.find(|(_, bound)| error.is_with(bound));
    Some(match holder {
        Some((holder, _)) => format!("Container {} has it.", holder.config.name),
        None => process(error.address, error.transport),
    })
}

/// The process that has a socket in the way, in words.
fn process(address: SocketAddr, transport: Transport) -> String {
    let port = address.port();
    let holders = sockets(address, transport);
    let visible = holders.keys().find_map(|inode| process_with(inode));
    match (visible, holders.values().next()) {
        (Some((id, name)), _) => format!("Process {id} ({}) has it.", escaped(&name)),
        (None, Some(user)) => format!(
            "A process of the user with number {user} has it: `sudo ss -lntup 'sport = {port}'` tells which."
        ),
        (None, None) => format!("`ss -lntup 'sport = {port}'` tells which program has it."),
    }
}

/// The sockets that are where this one was to be, and whose user's they are.
fn sockets(address: SocketAddr, transport: Transport) -> BTreeMap<String, String> {
    let kind = super::name(transport);
    let files = [kind.to_owned(), format!("{kind}6")];
    let texts = files.map(|file| std::fs::read_to_string(format!("/proc/net/{file}")));
    let all = texts.iter().flatten().flat_map(|text| text.lines().skip(1));
    all.filter_map(|line| socket(line, address, transport))
        .collect()
}

/// Number and user of the socket in this line, if it is in the way.
fn socket(line: &str, wanted: SocketAddr, transport: Transport) -> Option<(String, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, user, _, inode, ..] = words[..] else {
        return None;
    };
    let idle = transport == Transport::Tcp && state != LISTENS;
    (!idle && overlap(local_address(local)?, wanted)).then(|| (inode.to_owned(), user.to_owned()))
}

/// Whether two sockets of a kind cannot be at both of these.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (all || one.ip() == other.ip())
}

/// An address as the kernel writes it: words of 32 bits, in the order of this machine's bytes.
fn local_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let bytes = |at| Some(word(at)?.to_ne_bytes());
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(bytes(0)?).into(),
        32 => {
            let all = [bytes(0)?, bytes(8)?, bytes(16)?, bytes(24)?];
            let all: [u8; 16] = all.as_flattened().try_into().ok()?;
            Ipv6Addr::from(all).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The first process that has this socket, and what it is called.
fn process_with(inode: &str) -> Option<(u32, String)> {
    let link = format!("socket:[{inode}]");
    let names = std::fs::read_dir("/proc").ok()?.flatten();
    let mut ids: Vec<u32> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter().find_map(|id| {
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.flatten();
        let mut links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.find(|target| target.as_os_str() == link.as_str())?;
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        Some((id, name.trim_end().to_owned()))
    })
}

impl BindError {
    /// Whether this is where it is.
    fn is_with(&self, bound: &Bound) -> bool {
        bound.transport == self.transport && overlap(bound.host, self.address)
    }
}

#[cfg(test)]
mod tests;

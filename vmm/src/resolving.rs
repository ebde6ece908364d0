//! How this host resolves names (`/etc/resolv.conf`), which is how its containers do, and what they hear when that changes. Resolves
//! nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

const FILE: &str = "/etc/resolv.conf";

/// Name servers, domains to search and options of resolv.conf(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolving {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// How this host resolves names now. A host without the file asks itself.
pub(crate) fn of_host() -> Resolving {
    of_file(FILE)
}

fn of_file(path: &str) -> Resolving {
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

/// What a machine's network asks whether this host resolves names by others now: it asks when its guest does, so nobody watches the file.
#[derive(Debug)]
pub(crate) struct Following {
    socket: OwnedFd,
    path: &'static str,
    seen: Seen,
}

/// What changes with a file: whose it is, when it was written, how long it is; nothing where there is none.
type Seen = Option<[i64; 5]>;

fn look(path: &str) -> Seen {
    let about = std::fs::metadata(path).ok()?;
    let [device, inode, size] = [about.dev(), about.ino(), about.size()].map(u64::cast_signed);
    Some([device, inode, size, about.mtime(), about.mtime_nsec()])
}

impl Following {
    /// One that knows how names are resolved now, and the end of the socket that the network is to have.
    pub(crate) fn new() -> Result<(Self, OwnedFd), Errno> {
        Self::of(FILE)
    }

    fn of(path: &'static str) -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let seen = look(path);
        Ok((Self { socket, path, seen }, theirs))
    }

    /// Answers what was asked, if there is something new. Whether anybody may ask again.
    pub(crate) fn answer(&mut self) -> bool {
        match recv(&self.socket, &mut [0; 8][..], RecvFlags::DONTWAIT) {
            Ok((1.., _)) => {}
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Ok(_) | Err(_) => return false,
        }
        let seen = look(self.path);
        if seen != self.seen {
            self.seen = seen;
            let servers = network::encode_servers(&of_file(self.path).servers);
            // Who does not read it asks again.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = send(&self.socket, &servers, flags);
        }
        true
    }
}

impl AsFd for Following {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn parse(text: &str) -> Resolving {
    let mut found = Resolving::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let words = words.map(str::to_owned);
        match keyword {
            "nameserver" => found
                .servers
                .extend(words.take(1).filter_map(|word| word.parse::<IpAddr>().ok())),
            "search" | "domain" => found.search = words.collect(),
            "options" => found.options.extend(words),
            _ => {}
        }
    }
    if found.servers.is_empty() {
        found.servers.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

#[cfg(test)]
mod tests;

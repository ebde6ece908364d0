//! Networks of one's own: which there are, which address a container has in one, and the place where its machine meets the others'.
//! Refuses to know machines and packets.
//!
//! `networks/NAME/` beside the image store is a network, `network.json` in it what is said of it. Whoever makes or removes one, or
//! makes a container that is in one, holds `networks/lock`; a network is in use by every container that names it. A container that
//! runs has a socket there, and a link with its names; a socket that nobody has any more is in nobody's way, and goes when its
//! container starts again or its network is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use network::{GATEWAY, HOSTS, Neighbours, link_name, socket_name};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use serde::{Deserialize, Serialize};

use crate::cli::Connection;
use crate::container::{Config, Container, ContainerError, Containers, short};
use crate::human;
use crate::kept::{FileError, Kept};

const ABOUT: &str = "network.json";

/// Why a network cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("There is no network {0:?}")]
    Unknown(String),
    #[error(
        "{0:?} is not a name of a network: letters, digits, and then also `_`, `.` and `-`, two at least; and not default, bridge, none or host"
    )]
    Name(String),
    #[error("There is a network {0} already")]
    There(String),
    #[error("Network {name} is in use by container {container}")]
    InUse { name: String, container: String },
    #[error("The address {address} is in use by container {container}")]
    Taken {
        address: Ipv4Addr,
        container: String,
    },
    #[error("Network {name} is full: it has room for {} containers", HOSTS.count())]
    Full { name: String },
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// What is said of a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct About {
    /// Nanoseconds since 1970.
    pub(crate) created: u64,
    /// What its users call it by.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A network that is there.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) about: About,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// The network.
    pub(crate) name: String,
    /// What the container is called there besides its name.
    pub(crate) aliases: Vec<String>,
}

/// All networks of a user.
#[derive(Debug)]
pub(crate) struct Networks(Kept);

impl Networks {
    /// Those beside the image store at `root`. Nobody else finds a way to what listens there.
    pub(crate) fn open(root: &Path) -> Result<Self, NetworkError> {
        Ok(Self(Kept::open(root, "networks", 0o700, ABOUT)?))
    }

    /// Keeps networks from being removed, and addresses from being given, until it is dropped.
    pub(crate) fn hold(&self) -> Result<File, NetworkError> {
        Ok(self.0.hold()?)
    }

    /// Makes a network.
    pub(crate) fn create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<(), NetworkError> {
        if !matches!(name.parse(), Ok(Connection::Own(_))) {
            return Err(NetworkError::Name(name.to_owned()));
        }
        let _lock = self.hold()?;
        match self.get(name) {
            Err(NetworkError::Unknown(_)) => {}
            Ok(_) => return Err(NetworkError::There(name.to_owned())),
            Err(error) => return Err(error),
        }
        let about = About {
            created: human::nanoseconds(),
            labels,
        };
        Ok(self.0.make(name, &about, None)?)
    }

    /// The network of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Named, NetworkError> {
        let about = self.0.about(name)?;
        Ok(Named {
            name: name.to_owned(),
            about: about.ok_or_else(|| NetworkError::Unknown(name.to_owned()))?,
        })
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Result<Vec<Named>, NetworkError> {
        let all = self.0.all()?.into_iter();
        Ok(all.map(|(name, about)| Named { name, about }).collect())
    }

    /// Removes a network that no container is in.
    pub(crate) fn remove(&self, name: &str, containers: &Containers) -> Result<(), NetworkError> {
        let _lock = self.hold()?;
        self.get(name)?;
        if let Some(user) = members(name, containers)?.into_iter().next() {
            return Err(NetworkError::InUse {
                name: name.to_owned(),
                container: user.config.name,
            });
        }
        Ok(self.0.remove(name)?)
    }

    /// The names of those that containers are in.
    pub(crate) fn used(containers: &Containers) -> Result<BTreeSet<String>, NetworkError> {
        let all = containers.list()?.into_iter();
        let memberships = all.filter_map(|container| container.config.network);
        Ok(memberships.map(|membership| membership.name).collect())
    }

    /// An address of this network that no container has: the one that is wanted, or any. The lock is held.
    pub(crate) fn address(
        &self,
        name: &str,
        wanted: Option<Ipv4Addr>,
        containers: &Containers,
    ) -> Result<Ipv4Addr, NetworkError> {
        self.get(name)?;
        let members = members(name, containers)?;
        let holder = |address: Ipv4Addr| {
            let has = |member: &&Container| address_of(&member.config) == Some(address);
            members.iter().find(has)
        };
        if let Some(address) = wanted {
            return match holder(address) {
                None => Ok(address),
                Some(holder) => Err(NetworkError::Taken {
                    address,
                    container: holder.config.name.clone(),
                }),
            };
        }
        let [a, b, c, _] = GATEWAY.0.octets();
        let mut all = HOSTS.map(|last| Ipv4Addr::new(a, b, c, last));
        let free = all.find(|address| holder(*address).is_none());
        free.ok_or_else(|| NetworkError::Full {
            name: name.to_owned(),
        })
    }
}

/// A network's number among hull's IPv6 networks; by its name, so that it is the same at any time. The default one's is 0.
pub(crate) fn subnet(name: &str) -> u16 {
    // FNV-1a.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d]).max(1)
}

/// The containers in a network, the newest first.
pub(crate) fn members(name: &str, containers: &Containers) -> Result<Vec<Container>, NetworkError> {
    let mut all = containers.list()?;
    all.retain(|container| {
        let membership = container.config.network.as_ref();
        membership.is_some_and(|membership| membership.name == name)
    });
    Ok(all)
}

fn address_of(config: &Config) -> Option<Ipv4Addr> {
    config.machine.network.as_ref().map(|card| card.address)
}

/// A container's place in its network: the directory, and its address.
fn place(container: &Container) -> Option<(PathBuf, Ipv4Addr, &Membership)> {
    let membership = container.config.network.as_ref()?;
    let directory = container.store().join("networks").join(&membership.name);
    Some((directory, address_of(&container.config)?, membership))
}

/// Makes the socket of a container that is about to run, and says what it is called; its supervisor alone may.
pub(crate) fn join(container: &Container) -> Result<Option<Neighbours>, NetworkError> {
    let Some((path, address, membership)) = place(container) else {
        return Ok(None);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory: OwnedFd = match rustix::fs::open(&path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {
            return Err(NetworkError::Unknown(membership.name.clone()));
        }
        opened => opened.map_err(|error| FileError::new("Opening", &path, error))?,
    };
    // One that is left from an earlier run is nobody's.
    leave(container);
    let own = path.join(socket_name(address));
    let kind = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let bound = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, kind, None)?;
        // By descriptor: the path may be longer than an address.
        let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let name = format!("{short}/{}", socket_name(address));
        bind(&socket, &SocketAddrUnix::new(name)?)?;
        Ok::<_, rustix::io::Errno>(socket)
    };
    let socket = bound().map_err(|error| FileError::new("Making", &own, error))?;
    // Nobody comes here but the machines of this network, which may be users of their own.
    std::fs::set_permissions(&own, Permissions::from_mode(0o666))
        .map_err(|error| FileError::new("Making", &own, error))?;
    call(container)?;
    Ok(Some(Neighbours {
        socket,
        directory,
        prefix: "",
    }))
}

/// Says what a container is called in its network.
pub(crate) fn call(container: &Container) -> Result<(), NetworkError> {
    let Some((path, address, membership)) = place(container) else {
        return Ok(());
    };
    let config = &container.config;
    let names = [config.name.as_str(), short(&config.id)].into_iter();
    let names: Vec<String> = names
        .chain(membership.aliases.iter().map(String::as_str))
        .map(str::to_ascii_lowercase)
        .collect();
    let link = path.join(link_name(address));
    let new = path.join(format!("{}.new", link_name(address)));
    let _ = std::fs::remove_file(&new);
    std::os::unix::fs::symlink(names.join(","), &new)
        .and_then(|()| std::fs::rename(&new, &link))
        .map_err(|error| FileError::new("Writing", &link, error).into())
}

/// Removes what a container that runs no more has in its network. What stays is in nobody's way.
pub(crate) fn leave(container: &Container) {
    if let Some((path, address, _)) = place(container) {
        for name in [link_name(address), socket_name(address)] {
            let _ = std::fs::remove_file(path.join(name));
        }
    }
}

#[cfg(test)]
mod tests;

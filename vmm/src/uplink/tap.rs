//! Tap devices of the host's: a card's frames go there as the guest sends them. Refuses to know what is behind one.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::io::Errno;

use super::netlink::{Device, Netlink};
use crate::sys;

const TUN: &str = "/dev/net/tun";

/// Why a tap device cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    #[error("Cannot open {TUN}")]
    Open(#[source] io::Error),
    #[error("You may not use the device {0}, or make it where there is none")]
    Forbidden(String),
    #[error("The device {0} is in use by another program")]
    InUse(String),
    #[error("{0} is no tap device with one queue")]
    Other(String),
    #[error("The device {0} is down")]
    Down(String),
    #[error("Setting up the device {0} failed")]
    Failed(String, #[source] io::Error),
}

impl TapError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Open(_) => "`modprobe tun` loads what makes it.".to_owned(),
            Self::Forbidden(name) => format!(
                "`ip tuntap add {name} mode tap user NAME`, run by root, makes one that is NAME's."
            ),
            Self::InUse(_) => "Each container needs a device of its own.".to_owned(),
            Self::Other(name) => {
                format!(
                    "`ip tuntap add NAME mode tap` makes one; `ip -d link show {name}` says what this is."
                )
            }
            Self::Down(name) => format!("`ip link set {name} up`, run by root, brings it up."),
            Self::Failed(name, _) => format!("`ip -d link show {name}` says what it is."),
        }
    }
}

/// Opens the device of this name in the calling thread's network namespace, or makes it for as long as it is open.
pub(super) fn open(name: &str) -> Result<(OwnedFd, Device), TapError> {
    let failed = |error| TapError::Failed(name.to_owned(), error);
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN)
        .map_err(TapError::Open)?;
    let tap = OwnedFd::from(tun);
    sys::attach_tap(&tap, name).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::PERM | Errno::ACCESS) => TapError::Forbidden(name.to_owned()),
        Some(Errno::BUSY) => TapError::InUse(name.to_owned()),
        Some(Errno::INVAL) => TapError::Other(name.to_owned()),
        _ => failed(error),
    })?;
    let netlink = Netlink::open().map_err(failed)?;
    let device = netlink.device(name).map_err(failed)?;
    if !device.up {
        netlink
            .bring_up(&device)
            .map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => TapError::Down(name.to_owned()),
                _ => failed(error),
            })?;
    }
    Ok((tap, device))
}

/// Whether a network device can have this name (`dev_valid_name`); one with a `%` would be a pattern.
pub(crate) fn is_name(text: &str) -> bool {
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%');
    (1..=15).contains(&text.len()) && text != "." && text != ".." && !text.contains(odd)
}

//! Network namespaces of the host's: made, looked into, and a device in one joined to another. Refuses to know what is in one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::{Device, Netlink};
use super::tap::{self, TapError};
use crate::sys;

/// What the tap device is called there.
const TAP: &str = "tap0";

/// A network namespace, which is there as long as this is, or something in it is open.
#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    /// A new and empty one.
    pub(super) fn new() -> io::Result<Self> {
        apart(|| {
            // Of this thread alone.
            sys::unshare(libc::CLONE_NEWNET)?;
            Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
        })?
    }

    /// A path that leads to it, as long as this process has it.
    pub(super) fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Opens a tap device in it that is joined to this one: what comes to either leaves by the other, and the host's kernel looks
    /// at neither. The tap, and what the device is.
    pub(super) fn join(&self, name: &str) -> Result<(OwnedFd, Device), TapError> {
        let namespace = self.0.as_fd();
        let joined = apart(|| {
            let failed = |error| TapError::Failed(name.to_owned(), error);
            enter(namespace).map_err(failed)?;
            let netlink = Netlink::open().map_err(failed)?;
            let device = netlink.device(name).map_err(failed)?;
            if device.mac == [0; 6] {
                return Err(TapError::Other(name.to_owned()));
            }
            let (tap, made) = tap::open(TAP)?;
            let join = || {
                netlink.set_mtu(&made, device.mtu)?;
                netlink.redirect(&device, &made)?;
                netlink.redirect(&made, &device)?;
                netlink.bring_up(&device)
            };
            join().map_err(failed)?;
            Ok((tap, device))
        });
        joined.map_err(|error| TapError::Failed(name.to_owned(), error))?
    }
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace, kind)?)
}

/// Does something in a thread of its own, which takes the namespaces that it is in with it.
fn apart<T: Send>(act: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, act)?;
        thread
            .join()
            .map_err(|_| io::Error::other("its thread panicked"))
    })
}

//! Requests of tap devices. Refuses to know what they are for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::made;

/// Makes this open `/dev/net/tun` the tap device of that name, whose frames have a header of virtio's, 12 bytes, before them.
pub(crate) fn attach_tap(tun: &OwnedFd, name: &str) -> io::Result<()> {
    let header: libc::c_int = 12;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    // The last byte stays a zero.
    let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    for (place, byte) in places.zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    let raw = tun.as_raw_fd();
    // SAFETY: the kernel reads and writes the request, which is as long as it takes it to be and lives for the call.
    made(unsafe { libc::ioctl(raw, libc::TUNSETIFF as _, &raw mut request) }.into())?;
    // SAFETY: the kernel reads an `int`, which lives for the call.
    made(unsafe { libc::ioctl(raw, libc::TUNSETVNETHDRSZ as _, &raw const header) }.into())?;
    Ok(())
}

//! What makes a copy of a machine another machine, before anything of a container runs in it: random numbers and a clock of
//! its own. Knows no host and no container.

use core::ffi::CStr;

use protocol::{ENTROPY, Renewal};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::failure::{SetupError, refused, refused_file};
use crate::sys;

const RANDOM: &CStr = c"/dev/urandom";
/// The host's entropy device: its node is there while it is emptied, and no longer.
const DEVICE: &CStr = c"/dev/.hwrng";
const DEVICE_NUMBER: (u32, u32) = (10, 183);
/// What the driver and the core above it can hold at most: 64 bytes each, or a page.
const HELD: usize = 128;

/// Takes on random numbers and time of the host's.
///
/// # Errors
/// The host gave too few bytes, or the kernel refuses them.
pub fn renew(renewal: &Renewal) -> Result<(), SetupError> {
    if renewal.entropy.len() != ENTROPY {
        return Err(refused("take the host's random bytes")(Errno::INVAL));
    }
    let refused_random = refused_file("reseed", RANDOM.to_bytes());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let random = rustix::fs::open(RANDOM, flags, Mode::empty())
        .map_err(refused_file("open", RANDOM.to_bytes()))?;
    sys::add_entropy(&random, &renewal.entropy)
        .and_then(|()| sys::reseed(&random))
        .map_err(refused_random)?;
    empty_device().map_err(refused("empty the host's entropy device"))?;
    let nanoseconds = i64::try_from(renewal.time).unwrap_or(i64::MAX);
    let time = Timespec {
        tv_sec: nanoseconds / 1_000_000_000,
        tv_nsec: nanoseconds % 1_000_000_000,
    };
    clock_settime(ClockId::Realtime, time).map_err(refused("set the clock"))
}

/// Throws away what the entropy device gave before the save: every copy has the same.
fn empty_device() -> Result<(), Errno> {
    let (major, minor) = DEVICE_NUMBER;
    let (kind, mode) = (FileType::CharacterDevice, Mode::RUSR);
    rustix::fs::mknodat(CWD, DEVICE, kind, mode, makedev(major, minor))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(DEVICE, flags, Mode::empty());
    rustix::fs::unlink(DEVICE)?;
    let device = match opened {
        Ok(device) => device,
        // A kernel without the device gave nothing.
        Err(Errno::NODEV | Errno::NXIO) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut left = HELD;
    while left > 0 {
        let mut bytes = [0_u8; HELD];
        match rustix::io::read(&device, &mut bytes[..left]) {
            Ok(0) | Err(Errno::NODEV) => break,
            Ok(count) => left = left.saturating_sub(count),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

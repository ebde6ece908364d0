//! A process's terminal: a pseudo-terminal of the container, whose far side init holds. Knows no connection.

use protocol::WindowSize;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::Winsize;

/// Both sides of a new terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Init's side; it does not block.
    pub far: OwnedFd,
    /// The process's side.
    pub near: OwnedFd,
}

impl Terminal {
    /// Makes one of this size that belongs to this user.
    ///
    /// # Errors
    /// No devpts on /dev/pts, or no more terminals.
    pub fn open(size: WindowSize, uid: u32) -> Result<Self, Errno> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let far = openpt(flags)?;
        rustix::fs::fcntl_setfl(&far, OFlags::RDWR | OFlags::NONBLOCK)?;
        unlockpt(&far)?;
        let near = ioctl_tiocgptpeer(&far, flags)?;
        resize(&far, size)?;
        if uid != 0 {
            rustix::fs::fchown(&near, Some(Uid::from_raw(uid)), None::<Gid>)?;
        }
        Ok(Self { far, near })
    }
}

/// Changes the window of the terminal with this side; the kernel tells those who look at it.
///
/// # Errors
/// Not a terminal.
pub fn resize(side: impl AsFd, size: WindowSize) -> Result<(), Errno> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(side, size)
}

//! A second process of a jailed one. Refuses to know what for.

use std::io;

use super::made;

/// A second process of this one does `act` and ends, where the jail's filter lets through no more than the bare call. What other
/// threads are at does not go on in it: who calls this sees to it that they wait, with nothing locked that `act` takes.
pub(crate) fn part(act: impl FnOnce()) -> io::Result<()> {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            // SAFETY: ends the process without running anything of its parent's, also where `act` panics.
            unsafe { libc::_exit(0) }
        }
    }
    // SAFETY: without CLONE_VM and a stack this is a fork: the child has a copy of all memory and goes on here. It leaves this
    // function by ending, so nothing that its parent owns is dropped or used twice.
    match made(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })? {
        0 => {
            let _end = End;
            act();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// No child of this process has to be waited for.
pub(crate) fn wait_for_no_children() {
    // SAFETY: SIG_IGN runs no code of ours in a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

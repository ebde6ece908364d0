//! The process half of guest init without a guest: pid 1 of a PID namespace, its host at the other end of a Unix
//! socket. The tests drive it; it has no use besides. Like guest init it starts without Rust's own start-up, which would
//! ignore SIGPIPE.
#![no_main]

use guest_init::supervise::{Dial, Supervisor};
use guest_init::{greet, sys};
use protocol::FromHost;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Connects to the socket that the environment names.
fn dial() -> Result<OwnedFd, Errno> {
    let path = std::env::var("HULL_TEST_SOCKET").map_err(|_| Errno::DESTADDRREQ)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

// SAFETY: the name is the C runtime's contract, and no other symbol of this binary has it.
#[expect(
    unsafe_code,
    reason = "the attribute is the only way to name the entry point"
)]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    assert!(
        rustix::process::getpid().is_init(),
        "Run this as pid 1 of a PID namespace: it kills everyone else"
    );
    sys::block_signals();
    let mut host = greet(dial().expect("the socket should be there"), sys::tsc())
        .expect("the host should listen");
    let FromHost::Run { container, process } =
        host.wait().expect("the host should ask for something")
    else {
        panic!("The first message should be Run");
    };
    let mut supervisor = Supervisor::new(host, dial as Dial, &container.hostname, process.id)
        .expect("an epoll should be there");
    supervisor.run(&process).expect("the host should be there");
    println!("{}", supervisor.serve());
    0
}

//! Guest init without a guest: pid 1 of namespaces of its own, its host at the other end of a Unix socket. Only the disk
//! and the vsock are not there. The tests drive it; it has no use besides. Like guest init it starts without Rust's own
//! start-up, which would ignore SIGPIPE.
#![no_main]

use std::sync::OnceLock;

use guest_init::root::Base;
use guest_init::streams::Dial;
use guest_init::supervise::Supervisor;
use guest_init::{container, furnish, greet, sys};
use protocol::FromHost;
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, mkdir, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_move};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{chdir, chroot};

/// The host's socket, reachable from any root.
static HOST: OnceLock<String> = OnceLock::new();

fn dial() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(
        &socket,
        &SocketAddrUnix::new(HOST.get().ok_or(Errno::DESTADDRREQ)?)?,
    )?;
    Ok(socket)
}

/// A root like the guest's: this machine's files below, a layer in memory above.
fn enter_root(directory: &str, image: &str) -> Result<(), Errno> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount("upper", directory, "tmpfs", MountFlags::empty(), c"")?;
    chdir(directory)?;
    for name in ["files", "work", "merged"] {
        mkdir(name, Mode::from_raw_mode(0o755))?;
    }
    let options = format!("lowerdir={image},upperdir=files,workdir=work\0");
    let options =
        std::ffi::CStr::from_bytes_until_nul(options.as_bytes()).map_err(|_| Errno::INVAL)?;
    mount("overlay", "merged", "overlay", MountFlags::empty(), options)?;
    chdir("merged")?;
    mount_move(".", "/")?;
    chroot(".")?;
    chdir("/")
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
    let variable = |name| std::env::var(name).ok();
    let directory = variable("HULL_TEST_DIRECTORY").expect("the test names its directory");
    let fd = open(
        directory.as_str(),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .expect("it should be there");
    HOST.get_or_init(|| format!("/proc/self/fd/{}/host", fd.as_raw_fd()));
    let _ = fd.into_raw_fd();
    let mut host = greet(dial().expect("the socket should be there"), sys::tsc())
        .expect("the host should listen");
    let image = variable("HULL_TEST_IMAGE");
    if let Some(image) = &image {
        enter_root(&format!("{directory}/root"), image).expect("the root should be possible");
        furnish::furnish(false).expect("the root should be furnished");
    }
    let FromHost::Run { container, process } =
        host.wait().expect("the host should ask for something")
    else {
        panic!("The first message should be Run");
    };
    if image.is_some()
        && let Err(error) = container::furnish(&container, Base::Image)
    {
        println!("{error}");
        return 0;
    }
    let hostname = &container.hostname;
    let mut supervisor = Supervisor::new(host, dial as Dial, hostname, None, None, process.id)
        .expect("an epoll should be there");
    supervisor.run(&process).expect("the host should be there");
    println!("{}", supervisor.serve());
    0
}

//! From inside: processes of this test go into the jail and try what a VMM that was taken over would try.
//!
//! Each act is tried in a process of its own, made by `fork`, in a thread of each role. What a filter refuses kills the process.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::*;
use crate::sys::hostile::{call, in_child, in_other_child};

mod filters;

const ROLES: [Role; 6] = [
    Role::Reactor,
    Role::Vcpu,
    Role::Saver,
    Role::Network,
    Role::Tap,
    Role::Files,
];
/// An address that nothing is mapped at, a descriptor that is not open, a length that no mapping has.
const NOTHING: u64 = u64::MAX;

/// What a call did: it was killed for, it failed with this error, or it was made.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Killed,
    Failed(i32),
    Made,
}

impl Outcome {
    fn of(status: ExitStatus) -> Self {
        match (status.signal(), status.code()) {
            (Some(libc::SIGSYS), _) => Self::Killed,
            (None, Some(0)) => Self::Made,
            (None, Some(error)) => Self::Failed(error),
            other => panic!("the child ended by {other:?}"),
        }
    }
}

/// Goes into the jail with `kept` and nothing else; fails when this host lacks a layer that the test machines have.
fn enter_with(kept: &[BorrowedFd<'_>]) {
    let needs = Needs {
        descriptors: kept,
        writes: false,
        saves: false,
        network: Network::None,
        threads: 1,
    };
    let missing = enter(&needs, &mut Shares::default());
    // A container without Landlock or user namespaces still tests the rest.
    let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
    if std::env::var_os("HULL_TEST_WHOLE_JAIL").is_some() {
        assert!(texts.is_empty(), "{texts:?}");
    }
}

fn path(text: &'static std::ffi::CStr) -> u64 {
    u64::try_from(text.as_ptr().addr()).unwrap()
}

/// `open_how`: for reading, and nothing else is asked.
fn plainly() -> u64 {
    static HOW: [u64; 3] = [0; 3];
    u64::try_from(HOW.as_ptr().addr()).unwrap()
}

fn number(call: i64) -> u32 {
    u32::try_from(call).unwrap()
}

/// Acts of a VMM that was taken over: name, call, arguments.
fn acts() -> Vec<(&'static str, u32, [u64; 6])> {
    let here = i64::from(libc::AT_FDCWD).cast_unsigned();
    let parent = u64::from(std::os::unix::process::parent_id());
    let own = u64::from(std::process::id());
    let act = |name, call, arguments: &[u64]| {
        let mut all = [0; 6];
        for (to, from) in all.iter_mut().zip(arguments) {
            *to = *from;
        }
        (name, number(call), all)
    };
    vec![
        act(
            "open a file",
            libc::SYS_openat,
            &[here, path(c"/etc/passwd"), 0],
        ),
        act(
            "open by the older call",
            libc::SYS_open,
            &[path(c"/etc/passwd"), 0],
        ),
        act(
            "open by the newer call",
            libc::SYS_openat2,
            &[here, path(c"/etc/passwd"), plainly(), 24],
        ),
        act(
            "read another's memory",
            libc::SYS_openat,
            &[here, path(c"/proc/1/mem"), 0],
        ),
        act(
            "list processes",
            libc::SYS_openat,
            &[here, path(c"/proc"), 0],
        ),
        act(
            "open KVM again",
            libc::SYS_openat,
            &[here, path(c"/dev/kvm"), 2],
        ),
        act(
            "make a directory",
            libc::SYS_mkdirat,
            &[here, path(c"/tmp/hull-jail"), 0o700],
        ),
        act(
            "remove a file",
            libc::SYS_unlinkat,
            &[here, path(c"/tmp/hull-jail"), 0],
        ),
        act("leave the root", libc::SYS_chroot, &[path(c"..")]),
        act(
            "mount",
            libc::SYS_mount,
            &[path(c"none"), path(c"/"), path(c"tmpfs"), 0, 0],
        ),
        act("unmount", libc::SYS_umount2, &[path(c"/"), 2]),
        act("trace a process", libc::SYS_ptrace, &[16, parent]),
        act(
            "write another's memory",
            libc::SYS_process_vm_writev,
            &[parent, 0, 0, 0, 0, 0],
        ),
        act("kill its parent", libc::SYS_kill, &[parent, 0]),
        act("kill all", libc::SYS_kill, &[NOTHING, 0]),
        act(
            "signal a thread elsewhere",
            libc::SYS_tgkill,
            &[parent, parent, 34],
        ),
        act(
            "take another's descriptor",
            libc::SYS_pidfd_open,
            &[parent, 0],
        ),
        act("an internet socket", libc::SYS_socket, &[2, 1, 0]),
        act("a Unix socket", libc::SYS_socket, &[1, 1, 0]),
        act("a raw socket", libc::SYS_socket, &[17, 3, 0]),
        act("a virtual socket", libc::SYS_socket, &[40, 1, 0]),
        act("a datagram pair", libc::SYS_socketpair, &[1, 2, 0, 0]),
        act("connect", libc::SYS_connect, &[0, 0, 0]),
        act("execute", libc::SYS_execve, &[path(c"/bin/sh"), 0, 0]),
        act("fork", libc::SYS_fork, &[]),
        act("clone", libc::SYS_clone, &[17]),
        act(
            "a thread",
            libc::SYS_clone,
            &[0x3d_0f00, path(c"stack"), 0, 0, 0],
        ),
        act(
            "a process that shares memory",
            libc::SYS_clone,
            &[17 | 0x100],
        ),
        act(
            "clone into a user namespace",
            libc::SYS_clone,
            &[17 | 0x1000_0000],
        ),
        act("clone by the newer call", libc::SYS_clone3, &[0, 88]),
        act("a new user namespace", libc::SYS_unshare, &[0x1000_0000]),
        act("load BPF", libc::SYS_bpf, &[5, 0, 0]),
        act("userfaultfd", libc::SYS_userfaultfd, &[0]),
        act("io_uring", libc::SYS_io_uring_setup, &[8, 0]),
        act("keys", libc::SYS_keyctl, &[0, 0]),
        act("add a key", libc::SYS_add_key, &[0, 0, 0, 0]),
        act(
            "performance events",
            libc::SYS_perf_event_open,
            &[0, 0, 0, 0, 0],
        ),
        act(
            "code from data",
            libc::SYS_mmap,
            &[0, 4096, 7, 0x22, NOTHING, 0],
        ),
        act("data to code", libc::SYS_mprotect, &[0, 4096, 5]),
        act("a file in memory", libc::SYS_memfd_create, &[path(c"x"), 0]),
        act("shared memory of others", libc::SYS_shmget, &[1, 4096, 0]),
        act("type into the terminal", libc::SYS_ioctl, &[2, 0x5412, 0]),
        act("another virtual machine", libc::SYS_ioctl, &[0, 0xae01, 0]),
        act("more guest memory", libc::SYS_ioctl, &[0, 0x4020_ae46, 0]),
        act("raise a limit", libc::SYS_prlimit64, &[0, 7, 0, 0]),
        act("be dumpable", libc::SYS_prctl, &[4, 1]),
        act("a filter of its own", libc::SYS_seccomp, &[1, 0, 0]),
        act("another user", libc::SYS_setuid, &[0]),
        act("another nice value", libc::SYS_setpriority, &[0, own, 0]),
        act("the host's name", libc::SYS_sethostname, &[path(c"x"), 1]),
        act("the clock", libc::SYS_clock_settime, &[0, 0]),
        act("reboot", libc::SYS_reboot, &[0, 0, 0, 0]),
        act("a kernel module", libc::SYS_init_module, &[0, 0, 0]),
    ]
}

#[test]
fn jail_refuses_what_a_hostile_vmm_would_do() {
    for (name, call_number, arguments) in acts() {
        // The network's thread may connect: to what, is settled when it makes a socket. Who saves memory may make a process that
        // is confined as it is.
        let may = |role| {
            matches!(
                (name, role),
                ("connect", Role::Network) | ("clone", Role::Saver)
            )
        };
        for role in ROLES.into_iter().filter(|role| !may(*role)) {
            let in_first = Outcome::of(in_child(|| {
                enter_with(&[]);
                confine(role).unwrap();
                call(call_number, arguments)
            }));
            let refused = matches!(in_first, Outcome::Killed | Outcome::Failed(libc::ENOENT));
            assert!(refused, "{role:?}: {name}: {in_first:?}");
        }
        // In a thread beside the first, as vCPUs are.
        let in_other = Outcome::of(in_other_child(
            || enter_with(&[]),
            || {
                confine(Role::Vcpu).unwrap();
                call(call_number, arguments)
            },
        ));
        let refused = matches!(in_other, Outcome::Killed | Outcome::Failed(libc::ENOENT));
        assert!(refused, "another thread: {name}: {in_other:?}");
    }
}

/// What the other layers hold when there is no filter.
#[test]
fn jail_holds_without_filters() {
    let parent = u64::from(std::process::id());
    let here = i64::from(libc::AT_FDCWD).cast_unsigned();
    let tries: [(&str, i64, [u64; 6], &[i32]); 9] = [
        (
            "open a file",
            libc::SYS_openat,
            [here, path(c"/etc/passwd"), 0, 0, 0, 0],
            &[libc::ENOENT, libc::EACCES],
        ),
        (
            "up and out",
            libc::SYS_openat,
            [here, path(c"../../../../etc/passwd"), 0, 0, 0, 0],
            &[libc::ENOENT, libc::EACCES],
        ),
        (
            "list processes",
            libc::SYS_openat,
            [here, path(c"/proc"), 0, 0, 0, 0],
            &[libc::ENOENT, libc::EACCES],
        ),
        (
            "make a file",
            libc::SYS_openat,
            [here, path(c"/x"), 0o102, 0o600, 0, 0],
            &[libc::EROFS, libc::EACCES, libc::EOVERFLOW],
        ),
        (
            "kill its parent",
            libc::SYS_kill,
            [parent, 0, 0, 0, 0, 0],
            &[libc::EPERM],
        ),
        (
            "trace its parent",
            libc::SYS_ptrace,
            [16, parent, 0, 0, 0, 0],
            &[libc::EPERM],
        ),
        (
            "mount",
            libc::SYS_mount,
            [path(c"none"), path(c"/"), path(c"tmpfs"), 0, 0, 0],
            &[libc::EPERM],
        ),
        (
            "leave the root",
            libc::SYS_chroot,
            [path(c"/"), 0, 0, 0, 0, 0],
            &[libc::EPERM],
        ),
        (
            "another user",
            libc::SYS_setuid,
            [0; 6],
            &[libc::EPERM, libc::EINVAL],
        ),
    ];
    for (name, call_number, arguments, errors) in tries {
        let outcome = Outcome::of(in_child(|| {
            enter_with(&[]);
            call(number(call_number), arguments)
        }));
        let refused = errors
            .iter()
            .any(|error| outcome == Outcome::Failed(*error));
        assert!(refused, "{name}: {outcome:?}");
    }
}

#[test]
fn jail_keeps_the_descriptors_it_was_told_to() {
    let pipes: Vec<(OwnedFd, OwnedFd)> = (0..3).map(|_| rustix::pipe::pipe().unwrap()).collect();
    let status = in_child(|| {
        let kept = [pipes[2].1.as_fd(), pipes[0].0.as_fd()];
        enter_with(&kept);
        let open = |fd: &OwnedFd| rustix::io::fcntl_getfd(fd).is_ok();
        let right = open(&pipes[2].1) && open(&pipes[0].0);
        let wrong = open(&pipes[0].1) || open(&pipes[1].0) || open(&pipes[2].0);
        Err(i32::from(!right || wrong))
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn jail_leaves_no_user_no_capability_and_no_dump() {
    let status = in_child(|| {
        enter_with(&[]);
        let capabilities = rustix::thread::capabilities(None).unwrap();
        assert!(capabilities.effective.is_empty() && capabilities.permitted.is_empty());
        assert!(!rustix::process::getuid().is_root());
        assert!(rustix::thread::no_new_privs().unwrap());
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
        let core = rustix::process::getrlimit(rustix::process::Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        Ok(0)
    });
    assert_eq!(status.code(), Some(0), "{status:?}");
}

/// Shares are there, as they are meant, and are no way to what is above or beside them: not even without the filter, and not for
/// a process that root started.
#[test]
fn jail_has_shares_and_nothing_beside_them() {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;
    let directory = tempfile::tempdir().unwrap();
    for name in ["written", "read"] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        std::fs::write(directory.path().join(name).join("file"), "inside").unwrap();
    }
    std::fs::write(directory.path().join("secret"), "secret").unwrap();
    let share = |name, read_only| {
        let root = layers::open_directory(directory.path().join(name).to_str().unwrap());
        Share {
            root: root.unwrap(),
            read_only,
        }
    };
    let status = in_child(|| {
        let needs = Needs {
            descriptors: &[],
            writes: true,
            saves: false,
            network: Network::None,
            threads: 1,
        };
        let mut shares = Shares::new(vec![share("written", false), share("read", true)], true);
        let missing = enter(&needs, &mut shares);
        let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        if std::env::var_os("HULL_TEST_WHOLE_JAIL").is_some() {
            assert!(texts.is_empty(), "{texts:?}");
        }
        let [written, read] = [0, 1].map(|share| &shares.all[share].root);
        let open = |at: &OwnedFd, name: &str, flags: OFlags| {
            let made = flags.contains(OFlags::CREATE);
            let mode = if made { Mode::RUSR } else { Mode::empty() };
            let how = ResolveFlags::empty();
            openat2(at, name, flags, mode, how)
        };
        let make = OFlags::CREATE | OFlags::WRONLY;
        for share in [written, read] {
            open(share, "file", OFlags::RDONLY).unwrap();
            for name in ["../secret", "/etc/passwd", "/proc/self/mem", "/"] {
                let answer = open(share, name, OFlags::RDONLY);
                assert!(
                    matches!(answer, Err(Errno::NOENT | Errno::ACCESS)),
                    "{name} {answer:?}"
                );
            }
        }
        open(written, "new", make).unwrap();
        open(written, "file", OFlags::WRONLY).unwrap();
        for (name, flags) in [("new", make), ("file", OFlags::WRONLY)] {
            let answer = open(read, name, flags);
            assert!(
                matches!(answer, Err(Errno::ROFS | Errno::ACCESS)),
                "{answer:?}"
            );
        }
        let kept = rustix::thread::capabilities(None).unwrap().effective;
        assert!(layers::FILE_CAPABILITIES.contains(kept), "{kept:?}");
        assert!(!rustix::process::getuid().is_root());
        // Other threads have not even those.
        confine(Role::Vcpu).unwrap();
        let gone = call(number(libc::SYS_openat), [0; 6]);
        assert_eq!(gone, Err(libc::ENOENT));
        Ok(0)
    });
    assert_eq!(status.code(), Some(0), "{status:?}");
    assert!(directory.path().join("written/new").exists());
}

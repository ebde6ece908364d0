//! From inside: processes of this test go into the jail and try what a VMM that was taken over would try.
//!
//! Each act is tried in a process of its own, made by `fork`, in a thread of each role. What a filter refuses kills the process.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::acts::{NOTHING, acts, number, path};
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

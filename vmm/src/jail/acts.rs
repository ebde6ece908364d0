//! What a VMM that was taken over would try: the table that its jail is tested with. Refuses to know what becomes of it.

/// An address that nothing is mapped at, a descriptor that is not open, a length that no mapping has.
pub(super) const NOTHING: u64 = u64::MAX;

/// Its name, the call that it makes, and the arguments.
pub(super) type Act = (&'static str, u32, [u64; 6]);

/// Where this text is.
pub(super) fn path(text: &'static std::ffi::CStr) -> u64 {
    u64::try_from(text.as_ptr().addr()).unwrap()
}

/// `open_how`: for reading, and nothing else is asked.
fn plainly() -> u64 {
    static HOW: [u64; 3] = [0; 3];
    u64::try_from(HOW.as_ptr().addr()).unwrap()
}

/// A call's number, as filters have it.
pub(super) fn number(call: i64) -> u32 {
    u32::try_from(call).unwrap()
}

/// All of them.
pub(super) fn acts() -> Vec<Act> {
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
            "another container's state",
            libc::SYS_openat,
            &[here, path(c"/var/lib/hull/containers"), 0],
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
        act("another processor", libc::SYS_ioctl, &[0, 0xae41, 0]),
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

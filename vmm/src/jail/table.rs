//! Every system call that a VMM makes once its guest runs, who makes it, with what arguments, and why. What is not here
//! kills the process. Refuses to know how it is enforced.

use libc::{
    AF_INET, AF_INET6, AF_UNIX, ENOENT, F_GETFD, MADV_DONTNEED, MADV_FREE, PR_SET_PDEATHSIG,
    PROT_EXEC, SIGABRT, SIGBUS, SIGCHLD, SIGKILL, SIGSEGV, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK,
    SOCK_STREAM,
};

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The first thread: serves devices, and ends the machine.
    Reactor,
    /// Runs a processor of the guest.
    Vcpu,
    /// The first thread of a machine that may be saved: serves its devices, and writes it down.
    Saver,
    /// Is the guest's network.
    Network,
    /// Is the guest's network where that is a device of the host's.
    Tap,
    /// Serves the host's files that the guest was given.
    Files,
}

/// A system call that is expected.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its number.
    pub(super) call: u32,
    /// All of them must hold.
    pub(super) checks: &'static [Check],
    /// What becomes of it then.
    pub(super) answer: Answer,
}

/// What must be true of an argument. Those that are compared with numbers are `int`s: Linux ignores their upper halves.
#[derive(Debug)]
pub(super) enum Check {
    /// It is one of these.
    OneOf(u32, &'static [u32]),
    /// It has none of these bits.
    Without(u32, u32),
    /// It is a null pointer.
    Null(u32),
    /// It is this process's number.
    Own(u32),
}

/// What becomes of an expected call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// It is made.
    Yes,
    /// It fails with this error and does nothing.
    Error(u32),
}

impl Role {
    /// What threads of this role may call.
    pub(super) fn rules(self) -> impl Iterator<Item = &'static Rule> {
        let (own, more): (_, &[Rule]) = match self {
            Self::Reactor => (REACTOR, &[]),
            Self::Vcpu => (VCPU, &[]),
            Self::Saver => (REACTOR, SAVER),
            Self::Network => (NETWORK, &[]),
            Self::Tap => (TAP, &[]),
            Self::Files => (FILES, &[]),
        };
        BOTH.iter().chain(own).chain(more)
    }
}

const fn rule(call: i64, checks: &'static [Check]) -> Rule {
    Rule {
        call: bits(call),
        checks,
        answer: Answer::Yes,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of calls, requests and flags are 32 bits wide"
)]
pub(super) const fn bits(number: i64) -> u32 {
    number as u32
}

const fn flags(number: i32) -> u32 {
    number.cast_unsigned()
}

const ANY: &[Check] = &[];
/// The same for `mmap` and `mprotect`: no code comes into the process any more.
const NO_CODE: &[Check] = &[Check::Without(2, flags(PROT_EXEC))];

/// `KVM_RUN` and `KVM_GET_REGS`.
pub(super) const VCPU_REQUESTS: &[u32] = &[0xae80, 0x8090_ae81];
/// The first real-time signal is what gets a vCPU out of its guest.
pub(super) const KICK: u32 = 34;

/// Every thread.
const BOTH: &[Rule] = &[
    // Locks, and waiting for one another.
    rule(libc::SYS_futex, ANY),
    // Interrupts to the guest, kicks to oneself, lines of the kernel's log, the words of a panic.
    rule(libc::SYS_write, ANY),
    // Whether whoever reads the kernel's log takes another line; devices ask it of their descriptors.
    rule(libc::SYS_ppoll, ANY),
    rule(libc::SYS_poll, ANY),
    // A reset of the socket device closes its connections, whoever pulls it.
    rule(libc::SYS_close, ANY),
    // The allocator.
    rule(libc::SYS_brk, ANY),
    rule(libc::SYS_mmap, NO_CODE),
    rule(libc::SYS_mprotect, NO_CODE),
    rule(libc::SYS_mremap, ANY),
    rule(libc::SYS_munmap, ANY),
    // The allocator, a thread's end and the balloon give pages back.
    rule(
        libc::SYS_madvise,
        &[Check::OneOf(2, &[flags(MADV_DONTNEED), flags(MADV_FREE)])],
    ),
    // glibc's allocator reads the overcommit policy when it shrinks a thread's heap; it does without.
    Rule {
        call: bits(libc::SYS_openat),
        checks: ANY,
        answer: Answer::Error(flags(ENOENT)),
    },
    // Where the vDSO has no clock.
    rule(libc::SYS_clock_gettime, ANY),
    // The way out of a signal handler, and back into a call that one interrupted.
    rule(libc::SYS_rt_sigreturn, ANY),
    rule(libc::SYS_restart_syscall, ANY),
    // Sending a signal to a thread, aborting, and a thread's end hold signals back for a moment.
    rule(libc::SYS_rt_sigprocmask, ANY),
    // A panic and a stack overflow end the process the way their handlers do.
    rule(
        libc::SYS_rt_sigaction,
        &[Check::OneOf(
            0,
            &[flags(SIGABRT), flags(SIGSEGV), flags(SIGBUS)],
        )],
    ),
    rule(libc::SYS_getpid, ANY),
    rule(libc::SYS_gettid, ANY),
    // Kicks of vCPUs, and aborting; within this process.
    rule(
        libc::SYS_tgkill,
        &[Check::Own(0), Check::OneOf(2, &[KICK, flags(SIGABRT)])],
    ),
    // The end of a thread and of all.
    rule(libc::SYS_sigaltstack, ANY),
    rule(libc::SYS_exit, ANY),
    rule(libc::SYS_exit_group, ANY),
    // Debug builds of the standard library look before they close.
    rule(libc::SYS_fcntl, &[Check::OneOf(1, &[flags(F_GETFD)])]),
];

/// The first thread.
const REACTOR: &[Rule] = &[
    // Waiting, with devices that watch descriptors of their own.
    rule(libc::SYS_epoll_wait, ANY),
    rule(libc::SYS_epoll_pwait, ANY),
    rule(libc::SYS_epoll_ctl, ANY),
    // Events, and what the console printed.
    rule(libc::SYS_read, ANY),
    // Disks.
    rule(libc::SYS_preadv, ANY),
    rule(libc::SYS_pwritev, ANY),
    rule(libc::SYS_fdatasync, ANY),
    rule(libc::SYS_fallocate, ANY),
    // The guest's connections: a pair of sockets each, whose other end goes to the launcher.
    rule(
        libc::SYS_socketpair,
        &[
            Check::OneOf(0, &[flags(AF_UNIX)]),
            Check::OneOf(1, &[flags(SOCK_STREAM | SOCK_CLOEXEC)]),
        ],
    ),
    rule(libc::SYS_sendmsg, ANY),
    rule(libc::SYS_recvmsg, ANY),
    // The report among them; to nobody but the other end.
    rule(libc::SYS_sendto, &[Check::Null(4)]),
    rule(libc::SYS_recvfrom, ANY),
    rule(libc::SYS_shutdown, ANY),
    // Random bytes for the guest.
    rule(libc::SYS_getrandom, ANY),
    // How much memory the guest touched.
    rule(libc::SYS_mincore, ANY),
];

/// What reads a machine's state, in the order of `machine/state.rs` and `vcpu/state.rs`: `KVM_GET_MSR_INDEX_LIST`, `_CLOCK`,
/// `_IRQCHIP`; `_MP_STATE`, `_CPUID2`, `_TSC_KHZ`, `_REGS`, `_SREGS`, `_XSAVE`, `_XCRS`, `_DEBUGREGS`, `_LAPIC`, `_MSRS`,
/// `_VCPU_EVENTS`. None sets anything.
pub(super) const STATE_REQUESTS: &[u32] = &[
    0xc004_ae02,
    0x8030_ae7c,
    0xc208_ae62,
    0x8004_ae98,
    0xc008_ae91,
    0xaea3,
    0x8090_ae81,
    0x8138_ae83,
    0x9000_aea4,
    0x8188_aea6,
    0x8080_aea1,
    0x8400_ae8e,
    0xc008_ae88,
    0x8040_ae9f,
];

/// The first thread of a machine that is to be saved.
const SAVER: &[Rule] = &[
    // Processors and interrupt controllers as they stand.
    rule(libc::SYS_ioctl, &[Check::OneOf(1, STATE_REQUESTS)]),
    // Memory, into the file that it was handed: its length, its pages, and what a file that it came from has of them.
    rule(libc::SYS_ftruncate, ANY),
    rule(libc::SYS_pwrite64, ANY),
    rule(libc::SYS_lseek, ANY),
    // Whether the host has put some of it out of its memory.
    rule(libc::SYS_sysinfo, ANY),
    // A process with a copy of its memory, which writes that down while the guest goes on: no thread, no namespace, no stack of
    // another's. It is as confined as this thread is, and the limit of threads counts it.
    rule(
        libc::SYS_clone,
        &[Check::OneOf(0, &[flags(SIGCHLD)]), Check::Null(1)],
    ),
    // What that does first: to end when its parent does, and to give up all descriptors but those of the files.
    rule(
        libc::SYS_prctl,
        &[
            Check::OneOf(0, &[flags(PR_SET_PDEATHSIG)]),
            Check::OneOf(1, &[flags(SIGKILL)]),
        ],
    ),
    rule(libc::SYS_close_range, ANY),
];

/// The thread that is the guest's network.
const NETWORK: &[Rule] = &[
    // Waiting, with the sockets it watches; its clock, and the events that wake it.
    rule(libc::SYS_epoll_wait, ANY),
    rule(libc::SYS_epoll_pwait, ANY),
    rule(libc::SYS_epoll_ctl, ANY),
    rule(libc::SYS_timerfd_settime, ANY),
    rule(libc::SYS_read, ANY),
    // What neighbours are called.
    rule(libc::SYS_readlinkat, ANY),
    // Its counts; lines of its log are plain writes.
    rule(libc::SYS_pwrite64, ANY),
    // A socket for each of the guest's flows, and none of another kind.
    rule(
        libc::SYS_socket,
        &[
            Check::OneOf(0, &[flags(AF_INET), flags(AF_INET6)]),
            Check::OneOf(
                1,
                &[
                    flags(SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC),
                    flags(SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC),
                ],
            ),
        ],
    ),
    rule(libc::SYS_connect, ANY),
    // Peers of published ports.
    rule(libc::SYS_accept4, ANY),
    // What a guest sends and is sent.
    rule(libc::SYS_sendmsg, ANY),
    rule(libc::SYS_recvmsg, ANY),
    rule(libc::SYS_sendto, ANY),
    rule(libc::SYS_recvfrom, ANY),
    rule(libc::SYS_shutdown, ANY),
    // How a connection ended; that it sends at once, resets at its end, and remembers what was looked at.
    rule(libc::SYS_getsockopt, ANY),
    rule(libc::SYS_setsockopt, ANY),
];

/// `TUNSETOFFLOAD`: what the guest's kernel takes upon itself.
const TAP_REQUESTS: &[u32] = &[0x4004_54d0];

/// The thread that is the guest's network where that is a tap device: it has no sockets, and can make none.
const TAP: &[Rule] = &[
    // Waiting, with the device; its clock, and the events that wake it. Frames from the device are reads too.
    rule(libc::SYS_epoll_wait, ANY),
    rule(libc::SYS_epoll_pwait, ANY),
    rule(libc::SYS_epoll_ctl, ANY),
    rule(libc::SYS_timerfd_settime, ANY),
    rule(libc::SYS_read, ANY),
    // Its counts; frames to the device are plain writes.
    rule(libc::SYS_pwrite64, ANY),
    rule(libc::SYS_ioctl, &[Check::OneOf(1, TAP_REQUESTS)]),
];

/// Threads that run the guest.
const VCPU: &[Rule] = &[
    // Running it, and where it was when KVM could not go on.
    rule(libc::SYS_ioctl, &[Check::OneOf(1, VCPU_REQUESTS)]),
    // The thread that serves files runs first, where both share a processor.
    rule(libc::SYS_sched_yield, ANY),
];

/// The thread that serves files. It has no path but names beneath directories it was handed; what those lead to, mounts of their
/// own and Landlock bound.
const FILES: &[Rule] = &[
    // Waiting for requests.
    rule(libc::SYS_epoll_wait, ANY),
    rule(libc::SYS_epoll_pwait, ANY),
    // Looking a name up, opening what was found, making files.
    rule(libc::SYS_openat2, ANY),
    // What is found.
    rule(libc::SYS_fstat, ANY),
    rule(libc::SYS_newfstatat, ANY),
    rule(libc::SYS_fstatfs, ANY),
    rule(libc::SYS_readlinkat, ANY),
    rule(libc::SYS_getdents64, ANY),
    // What is in it.
    rule(libc::SYS_preadv, ANY),
    rule(libc::SYS_pwritev, ANY),
    rule(libc::SYS_pwritev2, ANY),
    rule(libc::SYS_lseek, ANY),
    rule(libc::SYS_ftruncate, ANY),
    rule(libc::SYS_fallocate, ANY),
    rule(libc::SYS_copy_file_range, ANY),
    // Making it last.
    rule(libc::SYS_fsync, ANY),
    rule(libc::SYS_fdatasync, ANY),
    rule(libc::SYS_syncfs, ANY),
    // Entries, and the mode that those that are made have.
    rule(libc::SYS_umask, ANY),
    rule(libc::SYS_mkdirat, ANY),
    rule(libc::SYS_mknodat, ANY),
    rule(libc::SYS_symlinkat, ANY),
    rule(libc::SYS_linkat, ANY),
    rule(libc::SYS_unlinkat, ANY),
    rule(libc::SYS_renameat2, ANY),
    // Owners, modes, times.
    rule(libc::SYS_fchownat, ANY),
    rule(libc::SYS_fchmodat, ANY),
    rule(libc::SYS_utimensat, ANY),
    // Extended attributes, by the numbers of descriptors in the working directory.
    rule(libc::SYS_getxattr, ANY),
    rule(libc::SYS_setxattr, ANY),
    rule(libc::SYS_listxattr, ANY),
    rule(libc::SYS_removexattr, ANY),
    // Tables that no guest can fill with collisions.
    rule(libc::SYS_getrandom, ANY),
];

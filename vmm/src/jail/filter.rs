//! Makes a BPF program of the table of system calls. Refuses to know why a call is in it.
//!
//! Linux runs the program over every number once, to know which need no second look: most of what a filter costs. So it is the numbers
//! that are halved, not the table: what is not in there is found out soon.

use std::io;
use std::ops::Range;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter,
};

use super::table::{Answer, Check, Role, Rule};
use crate::sys;

/// `AUDIT_ARCH_X86_64`: numbers mean something else for 32-bit callers.
const X86_64: u32 = 0xc000_003e;
/// Places in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// So many rules are looked through one after the other.
const FEW: usize = 4;

/// Whether this host filters system calls.
pub(super) fn available() -> io::Result<()> {
    if cfg!(sanitized) {
        // A sanitizer calls what it needs. Such a build is for tests.
        return Err(io::ErrorKind::Unsupported.into());
    }
    sys::can_kill_by_filter()
}

/// Filters the calling thread, for good.
pub(super) fn apply(role: Role) -> io::Result<()> {
    sys::filter_calls(&program(role))
}

/// The program for a role.
fn program(role: Role) -> Vec<sock_filter> {
    let process = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned();
    let mut rules: Vec<&Rule> = role.rules().collect();
    rules.sort_unstable_by_key(|rule| rule.call);
    let mut program = Program {
        code: Vec::with_capacity(512),
        process,
    };
    program.load(ARCHITECTURE);
    program.unless_equal_kill(X86_64);
    program.load(NUMBER);
    let end = rules.last().map_or(0, |rule| rule.call + 1);
    program.push(BPF_JMP | BPF_JGE | BPF_K, 0, 1, end);
    program.give(SECCOMP_RET_KILL_PROCESS);
    program.find(&rules, 0..end);
    program.code
}

struct Program {
    code: Vec<sock_filter>,
    /// The process's own number.
    process: u32,
}

impl Program {
    /// With the call's number loaded, which is one of `numbers`: decides about it by `rules`, which are sorted.
    fn find(&mut self, rules: &[&Rule], numbers: Range<u32>) {
        if rules.len() <= FEW {
            for rule in rules {
                let skip = self.push(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, rule.call);
                self.decide(rule);
                self.land(skip);
            }
            return self.give(SECCOMP_RET_KILL_PROCESS);
        }
        let border = numbers.start.midpoint(numbers.end);
        let (lower, upper) = rules.split_at(rules.partition_point(|rule| rule.call < border));
        // Not below the border: on to the far jump. Below: over it.
        self.push(BPF_JMP | BPF_JGE | BPF_K, 0, 1, border);
        let jump = self.push(BPF_JMP | BPF_JA, 0, 0, 0);
        self.find(lower, numbers.start..border);
        let distance = self.code.len() - jump - 1;
        if let Some(jump) = self.code.get_mut(jump) {
            jump.k = u32::try_from(distance).unwrap_or(0);
        }
        self.find(upper, border..numbers.end);
    }

    /// All checks must pass.
    fn decide(&mut self, rule: &Rule) {
        for check in rule.checks {
            match *check {
                Check::OneOf(argument, values) => {
                    self.load(ARGUMENTS + 8 * argument);
                    let count = u8::try_from(values.len()).unwrap_or(0);
                    for (left, value) in (1..=count).rev().zip(values) {
                        self.push(BPF_JMP | BPF_JEQ | BPF_K, left, 0, *value);
                    }
                    self.give(SECCOMP_RET_KILL_PROCESS);
                }
                Check::Without(argument, bits) => {
                    self.load(ARGUMENTS + 8 * argument);
                    self.push(BPF_ALU | BPF_AND | BPF_K, 0, 0, bits);
                    self.unless_equal_kill(0);
                }
                Check::Null(argument) => {
                    for half in [0, 4] {
                        self.load(ARGUMENTS + 8 * argument + half);
                        self.unless_equal_kill(0);
                    }
                }
                Check::Own(argument) => {
                    self.load(ARGUMENTS + 8 * argument);
                    self.unless_equal_kill(self.process);
                }
            }
        }
        self.give(match rule.answer {
            Answer::Yes => SECCOMP_RET_ALLOW,
            Answer::Error(number) => SECCOMP_RET_ERRNO | number,
        });
    }

    fn unless_equal_kill(&mut self, value: u32) {
        self.push(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, value);
        self.give(SECCOMP_RET_KILL_PROCESS);
    }

    fn load(&mut self, place: u32) {
        self.push(BPF_LD | BPF_W | BPF_ABS, 0, 0, place);
    }

    fn give(&mut self, answer: u32) {
        self.push(BPF_RET | BPF_K, 0, 0, answer);
    }

    /// Makes the comparison at `skip` go on here when it fails. A rule's checks are far shorter than the 255 instructions
    /// that it can skip.
    fn land(&mut self, skip: usize) {
        let distance = self.code.len() - skip - 1;
        if let Some(skip) = self.code.get_mut(skip) {
            skip.jf = u8::try_from(distance).unwrap_or(0);
        }
    }

    /// An instruction; `yes` and `no` are how many to skip. Gives its place.
    fn push(&mut self, code: u32, yes: u8, no: u8, k: u32) -> usize {
        let code = u16::try_from(code).unwrap_or(0);
        self.code.push(sock_filter {
            code,
            jt: yes,
            jf: no,
            k,
        });
        self.code.len() - 1
    }
}

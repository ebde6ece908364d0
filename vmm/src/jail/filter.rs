//! Makes a BPF program of the table of system calls. Refuses to know why a call is in it.
//!
//! Linux runs the program over every number once, to know which need no second look. So it is the numbers that are halved, not the
//! table: what is not in there is found out soon. Then it compiles the program, which costs most of all: so each answer is there once, at
//! the end, and whatever decides jumps there.

use std::io;
use std::ops::Range;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
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
    sys::filter_calls(&program(role)?)
}

/// The program for a role.
fn program(role: Role) -> io::Result<Vec<sock_filter>> {
    let process = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned();
    let mut rules: Vec<&Rule> = role.rules().collect();
    rules.sort_unstable_by_key(|rule| rule.call);
    let mut program = Program {
        code: Vec::with_capacity(256),
        open: Vec::with_capacity(256),
        process,
    };
    program.load(ARCHITECTURE);
    program.compare(BPF_JEQ, X86_64, To::Next, KILL);
    program.load(NUMBER);
    let end = rules.last().map_or(0, |rule| rule.call + 1);
    program.compare(BPF_JGE, end, KILL, To::Next);
    program.find(&rules, 0..end)?;
    program.finish()
}

/// Where a comparison leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// Over so many instructions.
    Over(u8),
    /// To the end, where this answer is given.
    Give(u32),
}

const KILL: To = To::Give(SECCOMP_RET_KILL_PROCESS);

/// Which of a comparison's two ways.
#[derive(Debug, Clone, Copy)]
enum Way {
    Yes,
    No,
}

struct Program {
    code: Vec<sock_filter>,
    /// Comparisons that lead to an answer, which has no place yet.
    open: Vec<(usize, Way, u32)>,
    /// The process's own number.
    process: u32,
}

impl Program {
    /// With the call's number loaded, which is one of `numbers`: decides about it by `rules`, which are sorted.
    fn find(&mut self, rules: &[&Rule], numbers: Range<u32>) -> io::Result<()> {
        if rules.len() <= FEW {
            return self.look_through(rules);
        }
        let border = numbers.start.midpoint(numbers.end);
        let (lower, upper) = rules.split_at(rules.partition_point(|rule| rule.call < border));
        let not_below = self.compare(BPF_JGE, border, To::Next, To::Next);
        self.find(lower, numbers.start..border)?;
        self.land(not_below, Way::Yes)?;
        self.find(upper, border..numbers.end)
    }

    /// The same, one rule after the other.
    fn look_through(&mut self, rules: &[&Rule]) -> io::Result<()> {
        if rules.is_empty() {
            self.push(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
        }
        for (number, rule) in rules.iter().enumerate() {
            let last = number + 1 == rules.len();
            let other = if last { KILL } else { To::Next };
            if rule.checks.is_empty() {
                self.compare(BPF_JEQ, rule.call, rule.gives(), other);
                continue;
            }
            let this = self.compare(BPF_JEQ, rule.call, To::Next, other);
            self.decide(rule);
            if !last {
                self.land(this, Way::No)?;
            }
        }
        Ok(())
    }

    /// All checks must pass.
    fn decide(&mut self, rule: &Rule) {
        for (number, check) in rule.checks.iter().enumerate() {
            let last = number + 1 == rule.checks.len();
            let passed = if last { rule.gives() } else { To::Next };
            match *check {
                Check::OneOf(argument, values) => {
                    self.load(ARGUMENTS + 8 * argument);
                    let count = u8::try_from(values.len()).unwrap_or(u8::MAX);
                    for (left, value) in (0..count).rev().zip(values) {
                        let yes = if last { passed } else { To::Over(left) };
                        let no = if left == 0 { KILL } else { To::Next };
                        self.compare(BPF_JEQ, *value, yes, no);
                    }
                }
                Check::Without(argument, bits) => {
                    self.load(ARGUMENTS + 8 * argument);
                    self.push(BPF_ALU | BPF_AND | BPF_K, bits);
                    self.compare(BPF_JEQ, 0, passed, KILL);
                }
                Check::Null(argument) => {
                    self.load(ARGUMENTS + 8 * argument);
                    self.compare(BPF_JEQ, 0, To::Next, KILL);
                    self.load(ARGUMENTS + 8 * argument + 4);
                    self.compare(BPF_JEQ, 0, passed, KILL);
                }
                Check::Own(argument) => {
                    self.load(ARGUMENTS + 8 * argument);
                    self.compare(BPF_JEQ, self.process, passed, KILL);
                }
            }
        }
    }

    /// The answers, and the ways to them.
    fn finish(mut self) -> io::Result<Vec<sock_filter>> {
        while let Some(&(.., answer)) = self.open.first() {
            let open = std::mem::take(&mut self.open);
            let (here, rest) = open.into_iter().partition(|(.., other)| *other == answer);
            self.open = rest;
            for (comparison, way, _) in here {
                self.land(comparison, way)?;
            }
            self.push(BPF_RET | BPF_K, answer);
        }
        Ok(self.code)
    }

    fn load(&mut self, place: u32) {
        self.push(BPF_LD | BPF_W | BPF_ABS, place);
    }

    /// Compares what was loaded with a value; gives the comparison's place.
    fn compare(&mut self, how: u32, value: u32, yes: To, no: To) -> usize {
        let place = self.push(BPF_JMP | how | BPF_K, value);
        for (way, to) in [(Way::Yes, yes), (Way::No, no)] {
            match to {
                To::Next => {}
                To::Over(count) => self.lead(place, way, count),
                To::Give(answer) => self.open.push((place, way, answer)),
            }
        }
        place
    }

    /// Makes a comparison lead here. It can skip 255 instructions: a table that is too long for that makes no program.
    fn land(&mut self, comparison: usize, way: Way) -> io::Result<()> {
        let distance = u8::try_from(self.code.len() - comparison - 1);
        let distance = distance.map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.lead(comparison, way, distance);
        Ok(())
    }

    fn lead(&mut self, comparison: usize, way: Way, distance: u8) {
        if let Some(comparison) = self.code.get_mut(comparison) {
            match way {
                Way::Yes => comparison.jt = distance,
                Way::No => comparison.jf = distance,
            }
        }
    }

    /// An instruction; gives its place.
    fn push(&mut self, code: u32, k: u32) -> usize {
        let code = u16::try_from(code).unwrap_or(0);
        let (jt, jf) = (0, 0);
        self.code.push(sock_filter { code, jt, jf, k });
        self.code.len() - 1
    }
}

impl Rule {
    fn gives(&self) -> To {
        To::Give(match self.answer {
            Answer::Yes => SECCOMP_RET_ALLOW,
            Answer::Error(number) => SECCOMP_RET_ERRNO | number,
        })
    }
}

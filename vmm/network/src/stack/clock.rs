//! The stack's clocks: what is timed, what is idle, and when what passed is written down; and when a busy line is free. They stand
//! while there is nothing of it.

use rustix::time::{
    ClockId, Itimerspec, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_settime,
};

use super::{Flow, Stack};
use crate::datagram::Content;

/// Nanoseconds of a tick while something in flight is timed, and ticks of the slower clock for flows that may be idle.
const TICK: i64 = 250_000_000;
pub(super) const SLOW: u32 = 40;
/// Ticks after which what passed is written down.
pub(super) const COUNTED: u32 = 4;
/// Ticks without a datagram after which a flow is forgotten: a minute, and ten seconds for a question.
const IDLE: u32 = 240;
const IDLE_DNS: u32 = 40;

impl Stack {
    /// Sees to it that the clock goes at least this fast.
    pub(super) fn arm(&mut self, ticks: u32) {
        if self.set != 0 && self.set <= ticks {
            return;
        }
        let time = once(TICK.saturating_mul(ticks.into()));
        if timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &time).is_ok() {
            self.set = ticks;
        }
    }

    /// Whether a line need not be waited for; if it must, the stack is ready again `at` that time at the latest.
    pub(super) fn await_line(&mut self, at: Option<u64>) -> bool {
        let Some(at) = at else { return true };
        if self.line_set.is_none_or(|set| at < set) {
            let time = once(i64::try_from(at).unwrap_or(i64::MAX));
            if timerfd_settime(&self.line, TimerfdTimerFlags::ABSTIME, &time).is_ok() {
                self.line_set = Some(at);
            }
        }
        false
    }

    /// A line may be free: whoever waits for one asks again.
    pub(super) fn line_free(&mut self) {
        let _ = rustix::io::read(&self.line, &mut [0; 8]);
        self.line_set = None;
    }

    /// The clock has run down.
    pub(super) fn tick(&mut self) {
        let _ = rustix::io::read(&self.clock, &mut [0; 8]);
        self.journal.write();
        let passed = std::mem::take(&mut self.set);
        let (mut fast, mut slow) = (false, false);
        for number in self.flows.numbers() {
            match self.flows.get(number) {
                Some((_, Flow::Tcp(connection))) => {
                    let next = connection.tick();
                    fast |= connection.is_timed();
                    self.follow(number, next);
                }
                Some((_, Flow::Datagrams(flow))) => {
                    flow.idle = flow.idle.saturating_add(passed);
                    let most = match flow.content {
                        Content::Dns(_) => IDLE_DNS,
                        _ => IDLE,
                    };
                    if flow.idle > most {
                        self.end(number);
                    } else {
                        slow = true;
                        fast |= self.await_answer(number, passed);
                    }
                }
                _ => {}
            }
        }
        if fast {
            self.arm(1);
        } else if self.journal.is_behind() {
            self.arm(COUNTED);
        } else if slow {
            self.arm(SLOW);
        }
    }
}

/// Once, so many nanoseconds on or at this time.
fn once(nanoseconds: i64) -> Itimerspec {
    Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: Timespec {
            tv_sec: nanoseconds.checked_div(1_000_000_000).unwrap_or(0),
            tv_nsec: nanoseconds.checked_rem(1_000_000_000).unwrap_or(0),
        },
    }
}

/// Nanoseconds of the clock that lines are timed by.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

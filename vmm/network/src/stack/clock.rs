//! The stack's clock: what is timed, what is idle, and when what passed is written down. It stands while there is nothing of it.

use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use super::{Flow, Stack};
use crate::datagram::Content;

/// Nanoseconds of a tick while something in flight is timed, and ticks of the slower clock for flows that may be idle.
const TICK: i64 = 250_000_000;
pub(super) const SLOW: u32 = 40;
/// Ticks after which what passed is written down.
pub(super) const COUNTED: u32 = 4;
/// Ticks without a datagram after which a flow is forgotten: a minute, and ten seconds for an answered question.
const IDLE: u32 = 240;
const IDLE_DNS: u32 = 40;

impl Stack {
    /// Sees to it that the clock goes at least this fast.
    pub(super) fn arm(&mut self, ticks: u32) {
        if self.set != 0 && self.set <= ticks {
            return;
        }
        let nanoseconds = TICK.saturating_mul(ticks.into());
        let time = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: nanoseconds.checked_div(1_000_000_000).unwrap_or(0),
                tv_nsec: nanoseconds.checked_rem(1_000_000_000).unwrap_or(0),
            },
        };
        if timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &time).is_ok() {
            self.set = ticks;
        }
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
                        Content::Dns { .. } => IDLE_DNS,
                        _ => IDLE,
                    };
                    if flow.idle > most {
                        self.end(number);
                    } else {
                        slow = true;
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

//! The health check of a container: a command that is run in it again and again, and what its ends say.

use std::time::Instant;

use protocol::{FromGuest, FromHost, Process, ProcessId, Status};

use super::{Agent, AgentError};
use crate::container::{Check, Health, Verdict, events};
use crate::signal;

/// The checks of one run.
#[derive(Debug)]
pub(super) struct Checks {
    check: Check,
    started: Instant,
    /// When the next one starts, or the one that runs has taken too long.
    due: Instant,
    running: Option<ProcessId>,
    seen: Health,
}

impl Checks {
    /// None has been made of a process that starts now.
    pub(super) fn new(check: Check) -> Self {
        let now = Instant::now();
        Self {
            due: now + check.interval(),
            started: now,
            check,
            running: None,
            seen: Health::default(),
        }
    }

    /// When something is to be done.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the process is the check that runs.
    pub(super) fn is(&self, process: ProcessId) -> bool {
        self.running == Some(process)
    }

    /// What a check's end says.
    fn ended(&mut self, well: bool) {
        let now = Instant::now();
        self.running = None;
        self.due = now + self.check.interval();
        if well {
            (self.seen.verdict, self.seen.streak) = (Verdict::Healthy, 0);
            return;
        }
        // Failures do not count while it may still be starting.
        let starting = self.seen.verdict == Verdict::Starting
            && now.duration_since(self.started) < self.check.start_period();
        if !starting {
            self.seen.streak = self.seen.streak.saturating_add(1);
            if self.seen.streak >= self.check.retries() {
                self.seen.verdict = Verdict::Unhealthy;
            }
        }
    }
}

impl Agent<'_> {
    /// The first process runs: its checks begin.
    pub(super) fn begin_checks(&mut self) {
        let check = self.watcher.container.and_then(|c| c.config.health.clone());
        self.checks = check.map(Checks::new);
        self.write_health();
    }

    /// Starts a check, or ends one that takes too long.
    pub(super) fn go_on_checking(&mut self) -> Result<(), AgentError> {
        let now = Instant::now();
        if self.status.is_some() || self.stands_still() {
            return Ok(());
        }
        let Some(checks) = self.checks.as_mut().filter(|checks| checks.due <= now) else {
            return Ok(());
        };
        if let Some(process) = checks.running {
            checks.ended(false);
            self.write_health();
            let signal = signal::KILL;
            return self.tell(&FromHost::Signal { process, signal });
        }
        self.last = ProcessId(self.last.0.wrapping_add(1));
        checks.running = Some(self.last);
        checks.due = now + checks.check.timeout();
        let process = Process {
            id: self.last,
            argv: checks.check.command(),
            stdin: false,
            terminal: None,
            ..self.task.process.clone()
        };
        self.tell(&FromHost::Exec { process })
    }

    /// What the guest says of a check.
    pub(super) fn hear_of_check(&mut self, message: &FromGuest) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        match message {
            FromGuest::Exited { status, .. } => checks.ended(*status == Status::Code(0)),
            FromGuest::Failed { .. } => checks.ended(false),
            FromGuest::Started { .. } | FromGuest::Starved { .. } | FromGuest::Resting => return,
        }
        self.write_health();
    }

    /// A machine that stands still is not checked, and has its time afterwards.
    pub(super) fn put_checks_off(&mut self, frozen: bool) {
        self.frozen = frozen;
        if !frozen {
            self.give_checks_time();
        }
    }

    /// The check that runs, or the next one, has all its time from now on.
    pub(super) fn give_checks_time(&mut self) {
        if let Some(checks) = &mut self.checks {
            let time = match checks.running {
                Some(_) => checks.check.timeout(),
                None => checks.check.interval(),
            };
            checks.due = Instant::now() + time;
        }
    }

    fn write_health(&self) {
        let (Some(container), Some(checks)) = (self.watcher.container, &self.checks) else {
            return;
        };
        let mut state = container.state();
        let before = state.health.replace(checks.seen);
        if before == Some(checks.seen) {
            return;
        }
        // As with the rest of the state: the next change is written with it.
        let _ = container.set_state(&state);
        let verdict = checks.seen.verdict;
        if before.is_some_and(|before| before.verdict != verdict) {
            events::note(container, &format!("health_status: {verdict}"), None);
        }
    }
}

#[cfg(test)]
mod tests;

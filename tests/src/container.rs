//! A container by its name, to be asked by hull's verbs. Knows no test.

use std::thread;

use crate::run::{Outcome, Vm};
use crate::{eventually, fixture, hull};

/// The container of this name, if there is one: removed when the test is over.
pub struct Container(pub &'static str);

impl Container {
    /// Busybox's shell with a script, left alone.
    #[must_use]
    pub fn detached(name: &'static str, options: &[&str], script: &str) -> Self {
        let words = ["-d", "--name", name].into_iter();
        let words = words.chain(options.iter().copied());
        let run = hull(["run"]).image(&fixture::busybox());
        let container = Self(name);
        run.options(words).run(script).exits(0);
        container
    }

    /// A verb with words before and after the container's name.
    #[must_use]
    pub fn verb(&self, verb: &str, before: &[&str], after: &[&str]) -> Vm {
        let words = [verb].into_iter().chain(before.iter().copied());
        hull(words.chain([self.0]).chain(after.iter().copied()))
    }

    /// Runs a shell script in it.
    #[must_use]
    pub fn exec(&self, script: &str) -> Outcome {
        self.verb("exec", &[], &["sh", "-c", script]).finish()
    }

    /// A field of `hull inspect`.
    #[must_use]
    pub fn field(&self, field: &str) -> String {
        let format = format!("--format={{{{.{field}}}}}");
        let outcome = self.verb("inspect", &[&format], &[]).finish();
        outcome.out().trim().to_owned()
    }

    /// Waits until a field is this.
    pub fn becomes(&self, field: &str, value: &str) {
        eventually(value, || self.field(field) == value);
    }

    /// What it has printed.
    #[must_use]
    pub fn logs(&self, options: &[&str]) -> String {
        self.verb("logs", options, &[]).finish().exits(0).out()
    }

    /// Waits until it has printed this.
    pub fn wait_for(&self, text: &str) {
        eventually(text, || self.logs(&[]).contains(text));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{:?}", self.verb("logs", &[], &[]).finish());
        }
        let _ = self.verb("rm", &["-f"], &[]).finish();
    }
}

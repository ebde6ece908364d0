//! What the user sees when something fails: the error, its causes, a hint, and
//! the exit code. The only place that prints errors; it knows no operation.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// docker's code for "the launcher failed, the workload never ran".
pub(crate) const LAUNCHER: u8 = 125;
/// docker's code for "the command was found but cannot be executed".
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// docker's code for "the command was not found".
pub(crate) const NOT_FOUND: u8 = 127;

/// An operation that did not happen, as told to the user; by this process or by another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    code: u8,
    /// The error and its causes.
    chain: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure of the launcher itself (exit code 125).
    pub(crate) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        let mut chain = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        Self {
            code: LAUNCHER,
            chain,
            hint: None,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another exit code than [`LAUNCHER`].
    #[must_use]
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Prints the failure to standard error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprint!("{}", self.render());
        ExitCode::from(self.code)
    }

    /// The error and its causes on one line.
    pub(crate) fn line(&self) -> String {
        escaped(&self.chain.join(": "))
    }

    /// The exit code that it makes hull end with.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (depth, error) in self.chain.iter().enumerate() {
            let what = if depth == 0 { "error" } else { "caused by" };
            let _ = writeln!(text, "{what}: {}", escaped(error));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// An error and its causes on one line, harmless to a terminal.
pub(crate) fn line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    escaped(&text)
}

/// Text from outside (a registry, an image, a guest) with every control
/// character but the line feed made visible, so that it cannot drive a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;

//! What the user sees when something fails: the error, its causes, a hint, and
//! the exit code. The only place that prints errors; it knows no operation.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// docker's code for "the launcher failed, the workload never ran".
pub(crate) const LAUNCHER: u8 = 125;
/// docker's code for "the command was found but cannot be executed".
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// docker's code for "the command was not found".
pub(crate) const NOT_FOUND: u8 = 127;

/// An operation that did not happen, as told to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    /// A failure of the launcher itself (exit code 125).
    pub(crate) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            code: LAUNCHER,
            error: error.into(),
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
        line(self.error.as_ref())
    }

    fn render(&self) -> String {
        let mut text = format!("error: {}\n", escaped(&self.error.to_string()));
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let _ = writeln!(text, "caused by: {}", escaped(&error.to_string()));
            cause = error.source();
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

//! A write-only serial port at 0x3f8: a kernel's last words, before and without any driver.
//!
//! Keeps one line, bounded, and the panic message if there was one. With a log it also passes on whole lines, escaped.

use std::fmt::Write as _;
use std::io;

use self::log::Log;

mod log;

/// First of the eight ports.
pub(crate) const FIRST: u16 = 0x3f8;
/// Last of them.
pub(crate) const LAST: u16 = 0x3ff;

const LINE_CONTROL: u16 = 3;
const LINE_STATUS: u16 = 5;
/// The data port is the clock divisor while this is set in the line control register.
const DIVISOR: u8 = 1 << 7;
/// Ready for the next byte, and done with all before.
const EMPTY: u8 = 1 << 5 | 1 << 6;

/// Longer lines are cut.
const LONGEST_LINE: usize = 512;
/// Longer messages are cut.
const LONGEST_MESSAGE: usize = 200;
const PANIC: &str = "Kernel panic - not syncing: ";

/// The port's state.
#[derive(Debug, Default)]
pub(crate) struct Uart {
    control: u8,
    line: Vec<u8>,
    panic: Option<String>,
    log: Option<Log<io::Stderr>>,
}

impl Uart {
    /// A port that passes its lines on to standard error, or to nobody.
    pub(crate) fn new(log: bool) -> Self {
        Self {
            log: log.then(|| Log::new(io::stderr())),
            ..Self::default()
        }
    }

    /// The guest reads a register.
    pub(crate) fn read(&self, port: u16) -> u8 {
        match port - FIRST {
            LINE_CONTROL => self.control,
            LINE_STATUS => EMPTY,
            _ => 0,
        }
    }

    /// The guest writes a register.
    pub(crate) fn write(&mut self, port: u16, value: u8) {
        match port - FIRST {
            0 if self.control & DIVISOR == 0 => self.put(value),
            LINE_CONTROL => self.control = value,
            _ => {}
        }
    }

    /// The panic message, once a whole line with one was written.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// The guest prints a byte.
    pub(crate) fn put(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => {}
            _ if self.line.len() < LONGEST_LINE => self.line.push(byte),
            _ => {}
        }
    }

    fn end_line(&mut self) {
        let line = printable(&self.line);
        self.line.clear();
        #[cfg(feature = "hostile")]
        crate::jail::taken_over::heard(&line);
        if let Some(log) = &mut self.log {
            log.put(&line);
        }
        if let (None, Some((_, message))) = (&self.panic, line.split_once(PANIC)) {
            let mut message = message.to_owned();
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            self.panic = Some(message);
        }
    }
}

/// Text with everything escaped that a terminal might obey.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        for character in piece.valid().chars() {
            if character.is_control() && character != '\t' {
                let _ = write!(text, "{}", character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in piece.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests;

//! Signals by the names and numbers that users type.

use std::str::FromStr;

/// What asks a process to end.
pub(crate) const TERM: u8 = 15;
/// What ends it.
pub(crate) const KILL: u8 = 9;
/// Linux's last one.
const LAST: u8 = 64;

/// x86-64 Linux's names, from number 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal's number, typed as `TERM`, `SIGTERM`, `15` or `RTMIN+3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) u8);

/// Text that is no signal.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no signal: a name such as TERM or SIGTERM, or a number from 1 to 64")]
pub(crate) struct SignalError(String);

impl FromStr for Name {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |rest: &str, sign: char| rest.strip_prefix(sign)?.parse::<u8>().ok();
        let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => Some(34),
            (_, Some("")) => Some(LAST),
            (Some(rest), _) => offset(rest, '+').and_then(|n| n.checked_add(34)),
            (_, Some(rest)) => offset(rest, '-').and_then(|n| LAST.checked_sub(n)),
            _ => None,
        };
        let position = NAMES.iter().position(|known| *known == name);
        position
            .and_then(|index| u8::try_from(index + 1).ok())
            .or(real_time)
            .or_else(|| text.parse().ok())
            .filter(|number| (1..=LAST).contains(number))
            .map(Self)
            .ok_or_else(|| SignalError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("1", 1),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("WINCH", 28),
        ] {
            assert_eq!(text.parse::<Name>().unwrap(), Name(number), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "SIG",
            "NOSUCH",
            "RTMIN+31",
            "RTMAX-40x",
            "-9",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}

//! How a failure looks.

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("Cannot open the store")]
struct Outer(#[source] std::io::Error);

#[test]
fn prints_error_cause_and_hint_each_on_a_line() {
    let failure = Failure::from(Outer(std::io::Error::other("disk on fire"))).hint("Put it out.");
    assert_eq!(
        failure.render(),
        "error: Cannot open the store\ncaused by: disk on fire\nhint: Put it out.\n"
    );
}

#[test]
fn terminal_escapes_from_outside_are_shown_not_obeyed() {
    assert_eq!(escaped("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\n");
    assert_eq!(escaped("\u{9b}31m\r"), "\\u{9b}31m\\r");
}

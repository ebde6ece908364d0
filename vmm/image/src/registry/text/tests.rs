//! Escapes and bounds.
use super::*;

#[test]
fn a_terminal_sees_nothing_it_would_act_on() {
    assert_eq!(
        printable("a\u{1b}[31mred\u{7}\u{202e}x \t\r\n y\"", 100),
        "a\\u{1b}[31mred\\u{7}\\u{202e}x y\""
    );
    assert_eq!(printable("żółw", 100), "żółw");
    assert_eq!(printable(&"x".repeat(50), 3), "xxx…");
    assert_eq!(printable("", 3), "");
}

#[test]
fn a_refusal_is_read_from_what_servers_send() {
    assert_eq!(
        refusal(br#"{"errors":[{"code":"DENIED","message":"no \u001b[2J way","detail":{}}]}"#),
        "DENIED: no \\u{1b}[2J way"
    );
    assert_eq!(refusal(br#"{"errors":[{"code":"UNKNOWN"}]}"#), "UNKNOWN");
    assert_eq!(
        refusal(br#"{"details":"incorrect username"}"#),
        "incorrect username"
    );
    assert_eq!(
        refusal(b" <html>"),
        "an HTML page, not an answer of a registry"
    );
    assert_eq!(refusal(b"slow\x1b down"), "slow\\u{1b} down");
    assert_eq!(refusal(b""), "no reason given");
    assert_eq!(refusal(br#"{"errors":[]}"#), r#"{"errors":[]}"#);
}

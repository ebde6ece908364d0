//! What is typed goes before what the image says, each by itself.

use image::Execution;

use super::*;

#[test]
fn times_are_read_as_go_writes_them() {
    for (text, milliseconds) in [
        ("30s", 30_000),
        ("1m30s", 90_000),
        ("500ms", 500),
        ("2h", 7_200_000),
        ("0s", 0),
    ] {
        assert_eq!(text.parse(), Ok(Span(milliseconds)), "{text}");
    }
    for text in ["", "30", "s", "1x", "-1s", "1.5s", "99999999999999999999h"] {
        text.parse::<Span>().unwrap_err();
    }
}

#[test]
fn flags_change_the_images_check() {
    let execution: Execution = serde_json::from_str(
        r#"{"Healthcheck": {"Test": ["CMD", "a", "b"], "Interval": 5000000000, "Retries": 7}}"#,
    )
    .unwrap();
    let flags = Flags::default();
    let check = flags.check(&execution).unwrap();
    assert_eq!(check.command, ["a", "b"]);
    assert_eq!((check.interval, check.retries, check.timeout), (5000, 7, 0));
    assert_eq!(flags.check(&Execution::default()), None);
    let typed = Flags {
        health_cmd: Some("x y".to_owned()),
        health_timeout: Some(Span(9)),
        ..Flags::default()
    };
    let check = typed.check(&execution).unwrap();
    assert_eq!(check.command, ["/bin/sh", "-c", "x y"]);
    assert_eq!((check.interval, check.retries, check.timeout), (5000, 7, 9));
    let none = Flags {
        no_healthcheck: true,
        ..Flags::default()
    };
    assert_eq!(none.check(&execution), None);
    let none = r#"{"Healthcheck": {"Test": ["NONE"]}}"#;
    assert_eq!(flags.check(&serde_json::from_str(none).unwrap()), None);
}

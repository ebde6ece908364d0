//! Pauses: what a server asks for, and how they grow.

use super::*;

#[test]
fn a_pause_is_a_number_of_seconds_or_a_date() {
    let asked = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers, 1_700_000_000).map(|pause| pause.as_secs())
    };
    assert_eq!(asked("7"), Some(7));
    assert_eq!(asked(" 0 "), Some(0));
    assert_eq!(asked("1700000030"), Some(30));
    assert_eq!(asked("1600000000"), Some(0));
    assert_eq!(asked("Tue, 14 Nov 2023 22:13:50 GMT"), Some(30));
    assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
    for text in [
        "",
        "-1",
        "1.5",
        "soon",
        "Wed, 21 Oct 2015 07:28:00 CET",
        "99999999999999999999",
    ] {
        assert_eq!(asked(text), None, "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), 0), None);
}

#[test]
fn pauses_double_up_to_a_bound() {
    let variable = |_: &str| None;
    let limits = Limits {
        pause: Duration::from_millis(100),
        pause_max: Duration::from_secs(1),
        ..Limits::default()
    };
    let http = Http::new(
        Authorities::new(&variable),
        Proxies::default(),
        true,
        limits,
    );
    for (attempt, whole) in [
        (1, 100),
        (2, 200),
        (3, 400),
        (4, 800),
        (5, 1000),
        (40, 1000),
        (u32::MAX, 1000),
    ] {
        let pause = http.pause(attempt).as_millis();
        assert!((whole / 2..=whole).contains(&pause), "{attempt}: {pause}");
    }
}

//! Dates against ones that were worked out elsewhere (`date -u -d … +%s`).

use super::*;

#[test]
fn days_are_counted_over_leap_years() {
    for (date, wanted) in [
        ((1970, 1, 1), 0),
        ((1969, 12, 31), -1),
        ((2000, 2, 29), 11_016),
        ((2000, 3, 1), 11_017),
        ((1900, 3, 1), -25_508),
        ((2100, 3, 1), 47_541),
    ] {
        assert_eq!(days(date.0, date.1, date.2), wanted, "{date:?}");
    }
    for day in -200_000..200_000 {
        let (year, month, of_month) = civil(day);
        assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
        assert_eq!(days(year, month, of_month), day);
    }
}

#[test]
fn http_dates_have_three_forms() {
    let now = 1_700_000_000;
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ] {
        assert_eq!(http(text, now), Some(784_111_777), "{text}");
    }
    let next = "Wednesday, 25-Nov-26 21:00:00 GMT";
    assert_eq!(http(next, now), Some(1_795_640_400));
    for text in [
        "",
        "soon",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37:00 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 November 1994 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 199 08:49:37 GMT",
        "Sun, 06 Nov 1950 08:49:37 GMT",
    ] {
        assert_eq!(http(text, now), None, "{text}");
    }
}

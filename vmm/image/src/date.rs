//! Dates in seconds since 1970: the Gregorian calendar, and the dates of HTTP headers. Knows no clock.

/// Days since 1970 of a date of the Gregorian calendar.
#[must_use]
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March here: the odd month is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970.
#[must_use]
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12 + 1;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Seconds since 1970 of an HTTP date in any of its three forms (RFC 9110 §5.6.7); none where it is no such date. The day of
/// the week is not looked at. `now` decides the century of the form with two figures.
pub(crate) fn http(text: &str, now: u64) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', '-']).filter(|w| !w.is_empty()).collect();
    let (day, month, year, time) = match words[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, day, month, year, time, "GMT"] if weekday.ends_with(',') => {
            (day, month, year, time)
        }
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let number = |text: &str, most: i64| -> Option<i64> {
        let is_number = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number)?;
        (number <= most).then_some(number)
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = i64::try_from(month).ok()? + 1;
    let day = number(day, 31).filter(|day| *day > 0)?;
    let mut clock = time.split(':');
    let mut next = |most| number(clock.next()?, most);
    // 60 is a leap second.
    let (hour, minute, second) = (next(23)?, next(59)?, next(60)?);
    if clock.next().is_some() {
        return None;
    }
    let at = |year| {
        u64::try_from(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second).ok()
    };
    match (year.len(), number(year, 9999)?) {
        (4, year) => at(year),
        // More than 50 years from now is the past with the same figures.
        (2, year) => {
            let half = 50 * 365 * 86_400;
            [2000, 1900]
                .into_iter()
                .filter_map(|century| at(century + year))
                .find(|at| *at <= now + half)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

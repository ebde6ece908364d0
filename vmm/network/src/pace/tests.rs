//! No line carries more than its rate and one burst, however it is used.

use super::*;

const RATE: u64 = 1_000_000;

/// Passes packets of `bytes` as soon as each may, from `now` until `end`; how many bytes passed.
fn flood(pace: &mut Pace, mut now: u64, end: u64, bytes: usize) -> u64 {
    let mut passed = 0;
    while now < end {
        match pace.wait(now) {
            Some(later) => now = later,
            None => {
                pace.pass(now, bytes);
                passed += u64::try_from(bytes).unwrap();
            }
        }
    }
    passed
}

#[test]
fn a_flood_gets_its_rate_and_one_burst() {
    for bytes in [60, 1514, 65_550] {
        let mut pace = Pace::new(RATE);
        let start = 5 * SECOND;
        let passed = flood(&mut pace, start, start + 10 * SECOND, bytes);
        // The burst is a tenth of a second; one packet more may be under way.
        let most = RATE * 10 + RATE / 10 + u64::try_from(bytes).unwrap();
        assert!((RATE * 10..=most).contains(&passed), "{bytes}: {passed}");
    }
}

#[test]
fn idle_time_is_made_good_only_up_to_the_burst() {
    let mut pace = Pace::new(RATE);
    flood(&mut pace, SECOND, 2 * SECOND, 1000);
    let passed = flood(&mut pace, 1000 * SECOND, 1000 * SECOND + 1, 1000);
    assert_eq!(passed, RATE / 10 + 1000);
}

#[test]
fn a_packet_that_may_pass_does_so_whole_and_those_after_it_wait() {
    let mut pace = Pace::new(SLOWEST);
    pace.pass(0, 65_536);
    assert_eq!(pace.wait(0), Some(8 * SECOND));
    assert_eq!(pace.wait(8 * SECOND - 1), Some(8 * SECOND));
    assert_eq!(pace.wait(8 * SECOND), None);
}

#[test]
fn no_rate_and_no_length_is_too_much() {
    let mut pace = Pace::new(0);
    pace.pass(u64::MAX, usize::MAX);
    assert_eq!(pace.wait(u64::MAX), None);
    Pace::new(u64::MAX).pass(0, 1);
}

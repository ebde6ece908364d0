//! What becomes of checks' ends.

use std::time::Duration;

use super::*;

#[test]
fn a_verdict_takes_as_many_failures_as_asked_for_and_one_success() {
    let check = Check {
        retries: 2,
        ..Check::default()
    };
    let mut checks = Checks::new(check);
    let mut tell = |well| {
        checks.ended(well);
        (checks.seen.verdict, checks.seen.streak)
    };
    assert_eq!(tell(false), (Verdict::Starting, 1));
    assert_eq!(tell(false), (Verdict::Unhealthy, 2));
    assert_eq!(tell(true), (Verdict::Healthy, 0));
    assert_eq!(tell(false), (Verdict::Healthy, 1));
    assert_eq!(tell(false), (Verdict::Unhealthy, 2));
    // While it may start, only a success counts.
    let mut checks = Checks::new(Check {
        retries: 1,
        start_period: 60_000,
        ..Check::default()
    });
    checks.ended(false);
    assert_eq!(checks.seen, Health::default());
    checks.ended(true);
    checks.ended(false);
    assert_eq!(checks.seen.verdict, Verdict::Unhealthy);
    assert!(checks.due() > Instant::now() + Duration::from_secs(25));
}

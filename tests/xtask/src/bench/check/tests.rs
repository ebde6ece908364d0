//! When a count that grew fails the check, and when it does not.

use super::grown;
use ::tests::bench::{Baseline, Row};

const BASELINE: &str = r#"{
    "network none": { "port exits": { "count": 1, "slack": 0 } },
    "start: a run": { "instructions": { "count": 1000, "slack": 10 }, "exits: hlt": { "count": 2, "slack": 0 } }
}"#;

/// What becomes of these counts of `a run`.
fn outcome(counts: &[(&str, u64)]) -> Result<String, String> {
    let row = Row {
        scenario: "start".into(),
        name: "a run".into(),
        runtime: "hull".into(),
        unit: "lab ms".into(),
        samples: vec![1.0],
        figure: 1.0,
        target: None,
        overhead: None,
        counts: counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect(),
    };
    let baseline: Baseline = serde_json::from_str(BASELINE).unwrap();
    grown(&baseline, &[row]).map_err(|error| error.to_string())
}

#[test]
fn a_count_may_grow_by_its_slack_and_no_more() {
    assert_eq!(
        outcome(&[("instructions", 1010), ("exits: hlt", 2)]),
        Ok(String::new())
    );
    assert_eq!(
        outcome(&[("instructions", 7), ("something new", 99)]),
        Ok(String::new())
    );
    assert_eq!(
        outcome(&[("instructions", 1011), ("exits: hlt", 3)]).unwrap(),
        "  start: a run: exits: hlt: 3, were 2 with a slack of 0\n  \
         start: a run: instructions: 1011, were 1000 with a slack of 10\n"
    );
}

#[test]
fn what_was_not_counted_is_no_success() {
    assert_eq!(
        outcome(&[]).unwrap_err(),
        "Nothing was counted of start: a run"
    );
    let baseline: Baseline = serde_json::from_str(BASELINE).unwrap();
    let missing = grown(&baseline, &[]).unwrap_err().to_string();
    assert_eq!(missing, "Nothing was measured of start: a run");
}

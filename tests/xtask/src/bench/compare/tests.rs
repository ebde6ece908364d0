//! What is said of results that differ in a known way.

use std::collections::BTreeMap;

use tests::bench::{Results, Row, SCHEMA};

use super::{changes, with_crun};

fn results(rows: &[(&str, f64, u64)]) -> Results {
    let row = |&(name, figure, exits): &(&str, f64, u64)| Row {
        scenario: "start".into(),
        name: name.into(),
        runtime: "hull".into(),
        unit: "lab ms".into(),
        samples: vec![figure],
        figure,
        target: None,
        overhead: None,
        counts: BTreeMap::from([("exits".to_owned(), exits)]),
    };
    Results {
        schema: SCHEMA,
        revision: "abc".into(),
        machine: String::new(),
        results: rows.iter().map(row).collect(),
    }
}

#[test]
fn figures_and_counts_that_changed_are_told() {
    let older = results(&[("true", 10.0, 100), ("same", 1.0, 1), ("lost", 2.0, 7)]);
    let newer = results(&[("true", 12.5, 90), ("same", 1.005, 1), ("found", 3.0, 1)]);
    let told = changes(&older, &newer);
    for line in [
        "start: true, hull: 10 → 12.50 lab ms (+25.0 %)",
        "start: true, hull: exits: 100 → 90  (-10.0 %)",
        "start: found, hull: 3 lab ms (new)",
        "start: lost, hull: was 2 lab ms (gone)",
    ] {
        assert!(told.lines().any(|other| other == line), "{line}\n{told}");
    }
    assert!(!told.contains("same"), "{told}");
    assert!(changes(&newer, &newer).contains("Nothing has changed"));
}

#[test]
fn what_was_not_measured_is_not_gone() {
    let newer = Results {
        results: Vec::new(),
        ..results(&[])
    };
    let told = changes(&results(&[("true", 10.0, 100)]), &newer);
    assert!(!told.contains("gone"), "{told}");
}

#[test]
fn the_same_work_of_crun_is_what_hull_is_a_multiple_of() {
    let mut rows = results(&[("true", 30.0, 1), ("true", 20.0, 1), ("alone", 5.0, 1)]).results;
    rows[1].runtime = "crun".into();
    with_crun(&mut rows);
    let overheads = rows.iter().map(|row| row.overhead).collect::<Vec<_>>();
    assert_eq!(overheads, [Some(1.5), None, None]);
}

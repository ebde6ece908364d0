//! A profile of known parts.

use std::collections::BTreeMap;

use tests::bench::Row;

use super::Part;

fn row(name: &str, figure: f64) -> Row {
    Row {
        scenario: "profile".into(),
        name: name.into(),
        runtime: "hull".into(),
        unit: "lab ms".into(),
        samples: vec![figure],
        figure,
        target: None,
        overhead: None,
        counts: BTreeMap::new(),
    }
}

#[test]
fn parts_add_up_and_short_ones_are_one() {
    let rows = [
        row("a;x", 1.0),
        row("b;<y>", 2.0),
        row("b;z;1", 0.004),
        row("b;z;2", 0.006),
    ];
    let whole = Part::of("all", &rows.iter().collect::<Vec<_>>());
    let text = whole.text("lab ms");
    let words: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    assert_eq!(
        words,
        [
            ["all", "3.010"],
            ["b", "2.010"],
            ["<y>", "2.000"],
            ["z", "0.010"],
            ["2", "shorter"],
            ["a", "1.000"],
            ["x", "1.000"]
        ]
    );
    let svg = whole.picture("lab ms");
    assert!(
        svg.contains("&lt;y&gt;") && svg.contains("width=\"1200.0\""),
        "{svg}"
    );
}

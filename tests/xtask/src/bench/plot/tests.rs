//! A picture of known bars.

use super::picture;

#[test]
fn bars_are_as_long_as_their_figures_and_names_are_text() {
    let svg = picture(
        "a < b",
        &[("x & y".into(), 10.0, true), ("z".into(), 5.0, false)],
    );
    assert!(
        svg.contains("a &lt; b") && svg.contains("x &amp; y"),
        "{svg}"
    );
    assert!(
        svg.contains("width=\"390.0\"") && svg.contains("width=\"195.0\""),
        "{svg}"
    );
}

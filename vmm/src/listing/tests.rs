//! Tables, JSON and templates.

use serde_json::json;

use super::*;

const COLUMNS: [Column; 2] = [("Name", "NAME"), ("Size", "SIZE")];

fn printed(format: &str) -> String {
    let rows = [
        json!({"Name": "a", "Size": 3, "Tags": ["x", "y"], "More": {"Deep": true}}),
        json!({"Name": "longer\u{1b}[31m", "Size": 40, "Tags": []}),
    ];
    let mut out = Vec::new();
    print(&mut out, &format.parse().unwrap(), &COLUMNS, &rows).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn tables_are_aligned_and_harmless() {
    assert_eq!(
        printed("table"),
        "NAME               SIZE\na                  3\nlonger\\u{1b}[31m   40\n"
    );
    assert_eq!(
        printed("table {{.Size}}\\t{{.Name}}"),
        "SIZE      NAME\n3         a\n40        longer\\u{1b}[31m\n"
    );
}

#[test]
fn templates_choose_fields() {
    assert_eq!(printed("{{.Name}}:{{.Size}}").lines().next(), Some("a:3"));
    assert_eq!(
        printed("{{json .Tags}} {{ .Tags }}").lines().next(),
        Some("[\"x\",\"y\"] [x y]")
    );
    assert_eq!(
        printed("{{join .Tags \", \"}} {{len .Tags}}")
            .lines()
            .next(),
        Some("x, y 2")
    );
    assert_eq!(printed("{{index .Tags 1}}"), "y\n<no value>\n");
    assert_eq!(
        printed("{{index .More \"Deep\"}}{{index .More \"None\"}}")
            .lines()
            .next(),
        Some("true")
    );
    assert_eq!(printed("{{.More.Deep}}"), "true\n<no value>\n");
    assert_eq!(printed("{{upper .Name}}").lines().next(), Some("A"));
    assert!(printed("{{json .}}").starts_with("{\"More\":{\"Deep\":true},\"Name\":\"a\""));
    assert_eq!(printed("json").lines().count(), 2);
}

#[test]
fn what_is_not_known_is_refused() {
    for text in [
        "{{.Name",
        "{{range .Tags}}",
        "{{.Name | json}}",
        "{{}}",
        "{{.A..B}}",
        "{{Name}}",
    ] {
        assert!(text.parse::<Format>().is_err(), "{text}");
    }
}

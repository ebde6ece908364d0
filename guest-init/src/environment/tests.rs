//! What is added to an environment, and what is not.

use alloc::string::String;
use std::prelude::v1::*;

use super::*;

fn environment(given: &[&str]) -> Vec<String> {
    let given = given.iter().map(|entry| entry.as_bytes().to_vec());
    let all = Environment::new(given, b"box", b"/root", false).into_entries();
    all.into_iter()
        .map(|entry| String::from_utf8(entry).unwrap())
        .collect()
}

#[test]
fn an_empty_environment_gets_dockers_defaults() {
    assert_eq!(
        environment(&[]),
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=box",
            "HOME=/root"
        ]
    );
}

#[test]
fn what_is_given_stays_in_order() {
    let given = ["HOSTNAME=other", "HOME=/h", "B=2", "PATH=", "A=1=1", "odd"];
    assert_eq!(environment(&given), given);
}

#[test]
fn an_empty_home_is_replaced() {
    assert_eq!(
        environment(&["HOME=", "PATH=/bin", "HOSTNAME=h"]),
        ["PATH=/bin", "HOSTNAME=h", "HOME=/root"]
    );
}

#[test]
fn a_longer_key_is_another_key() {
    assert!(
        environment(&["PATHS=/x"])
            .contains(&"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())
    );
}

#[test]
fn the_path_is_the_last_one_given() {
    let environment = Environment::new([b"PATH=/a".to_vec(), b"PATH=/b".to_vec()], b"", b"", false);
    assert_eq!(environment.path(), b"/b");
}

#[test]
fn a_terminal_has_a_type() {
    let types = |given: &[&str]| {
        let given = given.iter().map(|entry| entry.as_bytes().to_vec());
        let all = Environment::new(given, b"", b"", true).into_entries();
        all.into_iter()
            .filter(|entry| entry.starts_with(b"TERM="))
            .collect::<Vec<_>>()
    };
    assert_eq!(types(&[]), [b"TERM=xterm"]);
    assert_eq!(types(&["TERM=vt100"]), [b"TERM=vt100"]);
}

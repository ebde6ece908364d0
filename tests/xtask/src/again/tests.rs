//! How test programs print, and what is made of it.

use super::*;

/// A test program: prints that the words of `$1` have failed, unless `$2` are the tests that are to go, and ends with `$3`.
const PROGRAM: &str = r#"
    failed=$1 good=$2 code=$3
    shift 3
    [ "$*" = "$good" ] && exit 0
    printf 'test one ... FAILED\n\nfailures:\n\n---- one stdout ----\n    left: 1\n\nfailures:\n'
    printf '    %s\n' $failed
    printf '\ntest result: FAILED\n    by far\n'
    exit "$code""#;

/// What such a program ends with.
fn code(failed: &str, good: &str, code: i32) -> i32 {
    let code = code.to_string();
    twice(|again| {
        let mut command = Command::new("sh");
        command
            .args(["-c", PROGRAM, "sh", failed, good, &code])
            .args(again);
        command
    })
    .unwrap()
}

#[test]
fn what_fails_beside_others_passes_alone_or_has_failed() {
    assert_eq!(code("one", "one", 101), 0);
    assert_eq!(code("one a::two", "one a::two", 101), 0);
    assert_eq!(code("one", "no test", 101), 101);
}

#[test]
fn what_is_no_accident_gets_no_second_go() {
    assert_eq!(code("1 2 3 4", "1 2 3 4", 101), 101);
    // Not its tests were wrong, but the program.
    assert_eq!(code("one", "one", 7), 7);
}

#[test]
fn a_program_that_is_killed_has_failed() {
    let killed = |_: &[String]| {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'failures:\\n    one\\n'; kill -9 $$"]);
        command
    };
    assert_eq!(twice(killed).unwrap(), 1);
}

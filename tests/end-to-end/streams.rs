//! Standard input, output and error arrive separately, whole and unchanged.

use tests::archive::hexadecimal;
use tests::vm;

/// Bytes that compress badly and repeat nowhere near (a linear congruential generator; Knuth's MMIX constants).
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn output_and_error_are_separate() {
    let outcome = vm().run("echo one; echo two >&2; echo three");
    outcome.prints("one\nthree\n");
    assert_eq!(outcome.err(), "two\n");
}

#[test]
fn a_mebibyte_of_noise_comes_through_each_stream() {
    let noise = noise(1 << 20);
    let outcome = vm().stdin(noise.clone()).run("tee /dev/stderr");
    outcome.exits(0);
    assert_eq!(
        hexadecimal(&outcome.stdout),
        hexadecimal(&noise),
        "standard output"
    );
    assert_eq!(
        hexadecimal(&outcome.stderr),
        hexadecimal(&noise),
        "standard error"
    );
}

#[test]
fn two_hundred_thousand_lines_are_sorted() {
    let numbers = |order: &mut dyn Iterator<Item = u32>| -> String {
        order.map(|n| format!("{n}\n")).collect()
    };
    let outcome = vm()
        .stdin(numbers(&mut (1..=200_000).rev()))
        .command(["sort", "-n"])
        .finish();
    outcome.exits(0);
    assert_eq!(
        hexadecimal(&outcome.stdout),
        hexadecimal(numbers(&mut (1..=200_000)).as_bytes())
    );
}

#[test]
fn without_interactive_there_is_nothing_to_read() {
    vm().run("wc -c").prints("0\n");
}

#[test]
fn the_end_of_input_is_seen() {
    vm().stdin("a\nb\n")
        .run("cat; echo end")
        .prints("a\nb\nend\n");
    vm().stdin("").run("cat; echo end").prints("end\n");
}

#[test]
fn a_command_need_not_read_its_input() {
    vm().stdin(noise(1 << 20)).run("exit 3").exits(3);
    vm().stdin_open().run("exit 4").exits(4);
}

#[test]
fn arguments_arrive_as_they_were_given() {
    use std::os::unix::ffi::OsStringExt;
    let odd = std::ffi::OsString::from_vec(b"a  b\n'c' \"d\" $e \xff".to_vec());
    let outcome = vm()
        .command(["printf".into(), "[%s]".into(), odd, "".into()])
        .finish();
    outcome.exits(0);
    assert_eq!(outcome.stdout, b"[a  b\n'c' \"d\" $e \xff][]");
}

#[test]
fn what_an_orphan_still_writes_does_not_hold_the_end() {
    vm().run("(sleep 1000; echo late) & echo early")
        .prints("early\n");
}

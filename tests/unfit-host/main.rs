//! What hull says on a machine whose KVM boots no Linux. `cargo xtask test` runs this where that is so, as on a cloud machine
//! without nested virtualisation; elsewhere it would fail.

use std::process::{Command, Stdio};
use std::time::Duration;

use tests::{hull, vm};

#[test]
fn doctor_knows_at_once_and_says_what_to_do() {
    let outcome = hull(["doctor"]).finish();
    outcome.exits(1);
    assert!(outcome.out().contains("FAIL"), "{outcome:?}");
    assert!(outcome.out().contains("cargo xtask lab"), "{outcome:?}");
    // 100 ms are promised; a machine that is busy with other tests may take longer than one time in three.
    let fastest = (0..5).map(|_| hull(["doctor"]).finish().took).min();
    assert!(fastest < Some(Duration::from_millis(100)), "{fastest:?}");
}

#[test]
fn a_run_fails_with_the_same_explanation() {
    vm().run("echo it ran")
        .exits(125)
        .complains("cargo xtask lab");
}

#[test]
fn benchmarks_of_the_host_say_that_they_need_another() {
    let xtask = std::env::var_os("XTASK").expect("`cargo xtask test` sets XTASK");
    let mut bench = Command::new(xtask);
    bench.args(["bench", "--host", "exec"]).stdin(Stdio::null());
    let output = bench.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let expected =
        "error: This machine's KVM boots no Linux (`hull doctor` says why): without --host";
    assert!(said.contains(expected), "{said}");
}

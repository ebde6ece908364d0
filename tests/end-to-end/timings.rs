//! `--timings` tells the phases and counts of a run, and the counts stay within what is promised; `--kernel-log` shows what
//! the guest's kernel says.

use tests::bench::{Baseline, Known};
use tests::timings::{counts, figure};
use tests::{Outcome, vm};

/// What was counted when somebody last looked.
const BASELINE: &str = include_str!("../../benches/baseline.json");

/// The number that follows a row's name.
fn row(outcome: &Outcome, name: &str) -> f64 {
    figure(&outcome.err(), name).unwrap_or_else(|| panic!("no row {name} in {outcome:?}"))
}

/// Counts are what they were, or less.
fn have_not_grown(outcome: &Outcome, run: &str) {
    let baseline: Baseline = serde_json::from_str(BASELINE).expect("baseline.json has its form");
    let counts = counts(&outcome.err());
    for (name, Known { count, slack }) in &baseline[run] {
        let now = counts.get(name);
        assert!(
            now.is_some_and(|now| *now <= count + slack),
            "{name} of a run with {run}: {now:?}, and benches/baseline.json has {count} and a slack of {slack}: {outcome:?}"
        );
    }
}

#[test]
fn phases_add_up_and_counts_are_within_bounds() {
    // A network card costs its driver's questions, and the memory of its rings.
    for (network, exits, mebibytes) in [("none", 300.0, 20.0), ("default", 350.0, 22.0)] {
        let outcome = vm()
            .options(["--timings", "--start", "cold", "--network", network])
            .command(["/bin/busybox", "true"])
            .finish();
        outcome.exits(0);
        let phases = [
            "image",
            "VMM start",
            "memory",
            "load",
            "machine",
            "kernel",
            "init",
            "workload",
            "exit",
        ]
        .map(|phase| row(&outcome, phase));
        let (sum, total) = (phases.iter().sum::<f64>(), row(&outcome, "total"));
        assert!(
            phases.iter().all(|phase| *phase >= 0.0) && (sum - total).abs() < total / 10.0,
            "{outcome:?}"
        );
        let jail = row(&outcome, "jail");
        assert!(jail > 0.0 && jail < total, "{outcome:?}");
        assert!(row(&outcome, "exits") <= exits, "{outcome:?}");
        let touched = row(&outcome, "memory touched");
        assert!(touched <= mebibytes * 1024.0, "{outcome:?}");
        have_not_grown(&outcome, &format!("network {network}"));
    }
}

#[test]
fn the_kernels_log_is_shown_only_when_asked_for() {
    let quiet = vm().run("echo out");
    assert_eq!(quiet.prints("out\n").err(), "");
    vm().option("--kernel-log")
        .run("echo out")
        .prints("out\n")
        .complains("Linux version");
    vm().option("--kernel-log=initcalls")
        .run("echo out")
        .prints("out\n")
        .complains(" returned 0 after ");
}

//! However often machines begin in the same templates, each run tells the same, is another machine, and leaves nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use tests::{Vm, amount, vm};

use super::{Home, host, is_told, look_around};
use crate::leftovers::wait_for_end;

/// What a run sees of itself, and last what no two may have in common.
const SCRIPT: &str = "env | sort; id; cat /proc/self/mounts; ls -a / /dev /tmp /proc/self/fd; \
                      echo written >/file; cat /file; cat /proc/sys/kernel/random/boot_id";

fn warm(home: &Home, options: &[&str]) -> Vm {
    let options = ["--start", "warm", "--hostname", "box", "--timings"]
        .iter()
        .chain(options);
    home.vm(vm()).options(options)
}

#[test]
fn alone_warm_runs_tell_the_same_and_leave_nothing() {
    let home = Home::new("warm-runs");
    let runs = amount("WARM", 10);
    // Without a disk, and with one that is there and gone with the container.
    let shapes: [&[&str]; 2] = [&[], &["--storage", "1g"]];
    let run = |shape: &[&str]| {
        let outcome = warm(&home, shape).run(SCRIPT);
        let told = outcome.exits(0).out();
        let restored = |line: &str| line.starts_with("restore");
        assert!(outcome.err().lines().any(restored), "{outcome:?}");
        let (same, own) = told.trim_end().rsplit_once('\n').unwrap();
        (same.to_owned(), own.to_owned())
    };
    let first = shapes.map(run);
    let mut owns: BTreeSet<String> = first.iter().map(|(_, own)| own.clone()).collect();
    wait_for_end(&BTreeSet::new());
    let before = host(&home);
    let start = Instant::now();
    for number in 1..=runs {
        let which = usize::from(number % 2 == 0);
        let (same, own) = run(shapes[which]);
        assert_eq!(same, first[which].0, "run {number}");
        assert!(owns.insert(own), "run {number}");
        if is_told(number, runs) {
            let done = format!("{number} runs from templates, all with the same result,");
            look_around(&home, &before, &done, start);
        }
    }
}

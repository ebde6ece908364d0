//! Processors and memory are as many as asked for, and memory is not taken from the host before it is used.

use tests::vm;

#[test]
fn one_to_sixteen_processors() {
    for cpus in [1, 2, 16] {
        let outcome = vm()
            .options(["--cpus".into(), cpus.to_string()])
            .run("nproc");
        outcome.prints(&format!("{cpus}\n"));
    }
    vm().options(["--cpus", "17"])
        .run("true")
        .exits(125)
        .complains("16");
    vm().options(["--cpus", "0"]).run("true").exits(125);
}

#[test]
fn memory_as_asked_for() {
    for (asked, mebibytes) in [("64m", 64), ("256m", 256), ("1g", 1024)] {
        let outcome = vm()
            .options(["--memory", asked])
            .run("awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo");
        outcome.exits(0);
        let total: u64 = outcome.out().trim().parse().unwrap();
        assert!(
            total <= mebibytes && total >= mebibytes * 3 / 4,
            "{asked}: {outcome:?}"
        );
    }
}

#[test]
fn memory_is_not_taken_before_it_is_used() {
    // Far more than the lab has.
    vm().options(["--memory", "16g"])
        .run("echo ample")
        .prints("ample\n");
}

#[test]
fn a_command_that_wants_more_is_ended_and_not_the_host() {
    let outcome = vm()
        .options(["--memory", "128m"])
        .run("dd if=/dev/zero of=/dev/null bs=400M count=1; echo $?");
    outcome.exits(0);
    assert_ne!(outcome.out(), "0\n", "{outcome:?}");
}

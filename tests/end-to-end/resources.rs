//! Processors and memory are as many as asked for; memory is not taken from the host before it is used, nor kept when it is not.

use rustix::process::Signal;
use tests::{eventually, vm};

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

/// Memory in MiB that the host holds for the VMM of this launcher.
fn resident(launcher: u32) -> u64 {
    let read = |path: String| std::fs::read_to_string(path).unwrap();
    let child = |of: &str| {
        let children = read(format!("/proc/{of}/task/{of}/children"));
        children.split_whitespace().next().unwrap().to_owned()
    };
    // The launcher's child is the supervisor.
    let vmm = child(&child(&launcher.to_string()));
    let status = read(format!("/proc/{vmm}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_else(|| panic!("{status}")) / 1024
}

#[test]
fn alone_memory_that_the_guest_frees_goes_back_to_the_host() {
    let script = "
        trap 'rm /big; echo freed' USR1
        dd if=/dev/zero of=/big bs=1M count=100 2>/dev/null
        echo full
        sleep 100 & wait
        cat";
    let mut run = vm()
        .options(["--memory", "512m"])
        .stdin_open()
        .command(["sh", "-c", script])
        .start();
    run.wait_for("full");
    let full = resident(run.id());
    assert!(full > 100, "{full} MiB");
    run.signal(Signal::USR1);
    run.wait_for("freed");
    // Seconds, but more in a lab that others keep busy.
    eventually("memory given back", || resident(run.id()) <= full - 90);
    run.finish().exits(0);
}

#[test]
fn a_command_that_wants_more_is_ended_and_not_the_host() {
    let outcome = vm()
        .options(["--memory", "128m"])
        .run("dd if=/dev/zero of=/dev/null bs=400M count=1; echo $?");
    outcome.exits(0);
    assert_ne!(outcome.out(), "0\n", "{outcome:?}");
}

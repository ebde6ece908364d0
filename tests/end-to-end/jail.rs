//! What the host sees of a VMM's jail. What the process itself finds there is in the package's unit tests.

use tests::{Container, as_user, fixture, hull, vm};

/// Numbers of a process: the host's, then one for each namespace below.
fn numbers(process: &str) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let words = line.unwrap_or_else(|| panic!("{status}"));
    words.split_whitespace().flat_map(str::parse).collect()
}

#[test]
fn a_vmm_is_the_first_process_of_a_namespace() {
    let directory = fixture::scratch("jail-first").unwrap();
    let volume = format!("--volume={}:/v", directory.display());
    for options in [
        &["--jail=strict"][..],
        &["--jail=strict", "--network=none"],
        &["--jail=strict", &volume],
    ] {
        let container = Container::detached("jail-first", options, "sleep 1000");
        let process = container.field("State.Pid");
        let numbers = numbers(&process);
        assert_eq!(numbers, [process.parse().unwrap(), 1], "{options:?}");
    }
}

#[test]
fn an_ordinary_user_has_the_whole_jail() {
    const USER: u32 = 4243;
    let store = fixture::scratch("jail-user").unwrap();
    std::os::unix::fs::chown(&store, Some(USER), Some(USER)).unwrap();
    let told = hull(["doctor"]).under(as_user(USER));
    let told = told.host_env("HULL_ROOT", &store).finish();
    assert!(told.out().contains("every layer is allowed"), "{told:?}");
    let run = vm().under(as_user(USER)).host_env("HULL_ROOT", &store);
    run.option("--jail=strict")
        .run("echo caged")
        .prints("caged\n");
}

/// In a user namespace that may not have another PID namespace.
#[test]
fn what_a_host_does_not_allow_is_told_and_refused_only_if_asked_for() {
    let script = "echo 0 >/proc/sys/user/max_pid_namespaces && exec \"$@\"";
    let under = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let told = hull(["doctor"]).under(under).finish();
    assert!(
        told.out().contains("a PID namespace: No space left"),
        "{told:?}"
    );
    let run = vm().under(under).option("--jail=strict").run("true");
    run.exits(125).complains("a PID namespace");
    vm().under(under).run("echo uncaged").prints("uncaged\n");
}

//! What the host sees of a VMM's jail. What the process itself finds there is in the package's unit tests.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use tests::{Container, as_user, eventually, fixture, hull, vm};

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

/// The first process of a namespace hears only the signals that it has asked for.
#[test]
fn a_vmm_ends_when_it_is_told_to_by_a_signal() {
    let container = Container::detached("jail-told", &[], "sleep 1000");
    let process = container.field("State.Pid").parse().unwrap();
    kill_process(Pid::from_raw(process).unwrap(), Signal::TERM).unwrap();
    container.becomes("State.Status", "exited");
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

/// Control groups that an ordinary user may make, gone in the end.
struct Delegated;

impl Delegated {
    const ROOT: &str = "/sys/fs/cgroup";
    const GROUP: &str = "/sys/fs/cgroup/delegated";
    const MEMBER: &str = "/sys/fs/cgroup/delegated/session";

    fn new(user: u32) -> Self {
        let give = |group: &str| {
            std::fs::write(format!("{group}/cgroup.subtree_control"), "+memory +pids")
        };
        give(Self::ROOT).unwrap();
        std::fs::create_dir_all(Self::MEMBER).unwrap();
        give(Self::GROUP).unwrap();
        for group in [Self::GROUP, Self::MEMBER] {
            for file in ["", "/cgroup.procs"] {
                std::os::unix::fs::chown(format!("{group}{file}"), Some(user), Some(user)).unwrap();
            }
        }
        Self
    }

    /// What runs hull as a member.
    fn under(user: u32) -> Vec<String> {
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", Self::MEMBER);
        let words = ["sh", "-c", &script, "sh"].map(str::to_owned).into_iter();
        words.chain(as_user(user)).collect()
    }

    /// The groups that hull has made.
    fn made() -> Vec<PathBuf> {
        let entries = std::fs::read_dir(Self::GROUP).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_str().unwrap().contains("/hull-"))
            .collect()
    }

    fn the_one_made() -> PathBuf {
        let made = Self::made();
        assert_eq!(made.len(), 1, "{made:?}");
        made.into_iter().next().unwrap()
    }

    fn is_left_alone() {
        eventually("the groups' end", || Self::made().is_empty());
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(Self::MEMBER);
        let _ = std::fs::remove_dir(Self::GROUP);
        let _ = std::fs::write(
            format!("{}/cgroup.subtree_control", Self::ROOT),
            "-memory -pids",
        );
    }
}

/// Other tests' machines would have one too.
#[test]
fn alone_a_vmm_has_a_control_group_where_its_user_has_some() {
    const USER: u32 = 4244;
    let delegated = Delegated::new(USER);
    let store = fixture::scratch("jail-group").unwrap();
    std::os::unix::fs::chown(&store, Some(USER), Some(USER)).unwrap();
    let of_user = |run: tests::Vm| {
        run.under(Delegated::under(USER))
            .host_env("HULL_ROOT", &store)
    };
    let told = of_user(hull(["doctor"])).finish();
    let line = format!("ok    cgroup      {}\n", Delegated::GROUP);
    assert!(told.out().contains(&line), "{told:?}");

    let inspect = |field: &str| {
        let format = format!("--format={{{{.{field}}}}}");
        of_user(hull(["inspect", &format, "jail-group"])).finish()
    };
    let detached = [
        "-d",
        "--name=jail-group",
        "--memory=64m",
        "--cpus=2",
        "--jail=strict",
    ];
    of_user(vm()).options(detached).run("sleep 1000").exits(0);
    let group = Delegated::the_one_made();
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    assert_eq!(read("cgroup.procs"), inspect("State.Pid").out());
    assert_eq!(read("memory.max").trim(), ((68 + 256) << 20).to_string());
    assert_eq!(read("pids.max"), "18\n");
    of_user(hull(["rm", "--force", "jail-group"]))
        .finish()
        .exits(0);
    Delegated::is_left_alone();

    // A volume may be memory. And a group that nobody was left to remove goes with the next.
    let volume = "--volume=jail-group-volume:/v";
    let run = of_user(vm()).options(detached).option(volume);
    run.run("sleep 1000").exits(0);
    let limit = std::fs::read_to_string(Delegated::the_one_made().join("memory.max"));
    assert_eq!(limit.unwrap(), "max\n");
    let supervisor = inspect("State.SupervisorPid").out();
    let supervisor = Pid::from_raw(supervisor.trim().parse().unwrap());
    kill_process(supervisor.unwrap(), Signal::KILL).unwrap();
    Delegated::the_one_made();
    let _ = of_user(hull(["rm", "--force", "jail-group"])).finish();

    let mut run = of_user(vm())
        .command(["sh", "-c", "echo ready; sleep 1000"])
        .start();
    run.wait_for("ready");
    std::fs::write(Delegated::the_one_made().join("memory.max"), "8M").unwrap();
    let outcome = run.finish();
    outcome
        .exits(125)
        .complains("256 MiB beside its guest's memory");
    Delegated::is_left_alone();
    drop(delegated);
}

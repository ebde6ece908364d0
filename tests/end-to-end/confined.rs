//! What root is worth in a container: as much as docker gives, unless the command line gives more or less.

use tests::fixture::python;
use tests::{Outcome, vm};

/// Docker's 14 capabilities.
const DOCKER: &str = "00000000a80425fb";
const ALL: &str = "000001ffffffffff";
const NONE: &str = "0000000000000000";

/// Inheritable, permitted, effective, bounding and ambient capabilities, then whether rights can be added.
const STATUS: &str = "awk '/^(Cap|NoNew)/ { print $2 }' /proc/self/status | xargs";

fn status(options: &[&str]) -> String {
    let outcome = vm().options(options).run(STATUS);
    outcome.exits(0).out().trim().to_owned()
}

#[test]
fn capabilities_are_dockers_unless_said_otherwise() {
    assert_eq!(
        status(&[]),
        format!("{NONE} {DOCKER} {DOCKER} {DOCKER} {NONE} 0")
    );
    let user = format!("{NONE} {NONE} {NONE} {DOCKER} {NONE} 0");
    assert_eq!(status(&["--user", "user"]), user);
    for (options, bounding) in [
        (&["--privileged"][..], ALL),
        (&["--cap-add", "all"], ALL),
        (
            &["--cap-add=ALL", "--cap-drop=cap_chown"],
            "000001fffffffffe",
        ),
        (&["--cap-drop", "ALL"], NONE),
        (
            &["--cap-drop=ALL", "--cap-add=CAP_KILL"],
            "0000000000000020",
        ),
        (
            &["--cap-add=sys_admin", "--cap-drop=MKNOD"],
            "00000000a02425fb",
        ),
    ] {
        let expected = format!("{NONE} {bounding} {bounding} {bounding} {NONE} 0");
        assert_eq!(status(options), expected, "{options:?}");
    }
}

/// One line for each thing that changes the kernel, or shows what is not the container's.
const DEEDS: &str = "
    try() { if \"$@\" >/dev/null 2>&1; then echo can $*; else echo cannot $*; fi; }
    try mount -t tmpfs none /mnt
    try hostname another
    try ip link set lo mtu 1400
    try sh -c 'echo 1000 >/proc/sys/kernel/msgmax'
    try sh -c 'echo b >/proc/sys/kernel/domainname'
    try mkdir /sys/fs/cgroup/below
    try grep -q . /proc/timer_list
    try dd if=/dev/kmsg of=/dev/null bs=8192 count=1
    try sh -c 'exec 3</dev/net/tun'
    try sh -c 'exec 3</dev/fuse'
    try chown 1 /mnt
    try chroot / true";

fn deeds(options: &[&str]) -> Outcome {
    vm().options(options).run(&format!("mkdir /mnt; {DEEDS}"))
}

#[test]
fn the_kernel_is_kept_from_a_container_and_given_to_a_privileged_one() {
    let confined = deeds(&[]);
    let told = confined.exits(0).out();
    let can: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("can "))
        .collect();
    assert_eq!(
        can,
        ["can chown 1 /mnt", "can chroot / true"],
        "{confined:?}"
    );
    assert_eq!(told.lines().count(), 12, "{confined:?}");
    let privileged = deeds(&["--privileged"]);
    let told = privileged.exits(0).out();
    assert!(!told.contains("cannot"), "{privileged:?}");
    assert_eq!(told.lines().count(), 12, "{privileged:?}");
}

#[test]
fn a_capability_gives_or_takes_what_it_is_for() {
    let net_admin = deeds(&["--cap-add=NET_ADMIN"]).out();
    assert!(
        net_admin.contains("can ip link set lo mtu 1400"),
        "{net_admin}"
    );
    // The mount is in the way of the parameters, whatever the capability.
    assert!(net_admin.contains("cannot sh -c echo 1000"), "{net_admin}");
    let none = deeds(&["--cap-drop=ALL"]).out();
    assert!(none.contains("cannot chown 1 /mnt"), "{none}");
    assert!(none.contains("cannot chroot / true"), "{none}");
}

#[test]
fn containers_in_a_privileged_container_find_what_they_need() {
    let script = "
        set -e
        mkdir /lab && mount -t tmpfs none /lab && cd /lab && mkdir lower upper work merged
        echo below >lower/file && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none merged
        echo above >merged/file && cat lower/file upper/file
        mkdir /sys/fs/cgroup/a /sys/fs/cgroup/b && echo $$ >/sys/fs/cgroup/a/cgroup.procs
        echo +pids >/sys/fs/cgroup/cgroup.subtree_control && cat /sys/fs/cgroup/b/pids.max
        ip link add bridge0 type bridge && ip link set bridge0 up
        unshare -m -p -n -f sh -c 'echo $$'
        cat /proc/self/cgroup";
    let outcome = vm().option("--privileged").run(script);
    outcome.prints("below\nabove\nmax\n1\n0::/a\n");
}

#[test]
fn a_privileged_container_has_a_firewall_and_tunnels_of_its_own() {
    let script = "
        set -e
        nft add table inet wall
        nft 'add chain inet wall out { type filter hook output priority 0; }'
        nft 'add rule inet wall out ip daddr 192.0.2.99 counter reject'
        ip tuntap add tun7 mode tun && ip addr add 192.0.2.7/24 dev tun7 && ip link set tun7 up
        (exec 3<>/dev/tcp/192.0.2.99/80) 2>&1 | grep -q refused && echo refused
        nft list chain inet wall out | grep -q 'packets [1-9]' && echo counted
        ip -br -4 addr show tun7";
    let run = |options: &[&str]| {
        let vm = vm().image(&tests::fixture::servers()).options(options);
        vm.command(["bash", "-c", script]).finish()
    };
    let outcome = run(&["--privileged", "--network=none"]);
    let told = outcome.exits(0).out();
    assert!(told.starts_with("refused\ncounted\ntun7"), "{outcome:?}");
    assert!(told.contains("192.0.2.7/24"), "{outcome:?}");
    assert_ne!(run(&["--network=none"]).status.code(), Some(0));
}

#[test]
fn devices_are_dockers() {
    let list = "cd /dev; find . -type c ! -path './pts/*' | sort | xargs";
    let docker = "./full ./null ./random ./tty ./urandom ./zero\n";
    vm().run(list).prints(docker);
    vm().option("--privileged")
        .run(list)
        .prints("./full ./fuse ./kmsg ./net/tun ./null ./random ./tty ./urandom ./zero\n");
}

#[test]
fn executing_a_program_adds_rights_unless_told_otherwise() {
    let script = "
import os, shutil
shutil.copy('/usr/bin/python3', '/python')
os.chmod('/python', 0o4755)
os.setuid(1000)
os.execv('/python', ['python', '-c', 'import os; print(os.geteuid())'])";
    let effective = |options: &[&str]| {
        let command = ["python3", "-c", script];
        let outcome = vm()
            .image(&python())
            .options(options)
            .command(command)
            .finish();
        outcome.exits(0).out()
    };
    assert_eq!(
        effective(&["--security-opt=no-new-privileges=false"]),
        "0\n"
    );
    assert_eq!(
        effective(&["--security-opt", "no-new-privileges"]),
        "1000\n"
    );
}

#[test]
fn what_is_not_there_is_refused_with_a_reason() {
    for (option, value, reason) in [
        ("--cap-add", "NET_ADMN", "is NET_ADMIN meant?"),
        ("--cap-drop", "everything", "capabilities(7)"),
        ("--security-opt", "seccomp=builtin", "seccomp"),
        ("--security-opt", "bogus", "no-new-privileges"),
        ("--device", "/dev/sda", "--privileged"),
    ] {
        let outcome = vm().options([option, value]).run("true");
        outcome.exits(125).complains(option).complains(reason);
    }
    // What docker's users write to have less is so already.
    let already = [
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
    ];
    vm().options(already)
        .run("grep Seccomp: /proc/self/status")
        .prints("Seccomp:\t0\n");
}

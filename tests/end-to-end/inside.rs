//! The flags that shape the inside of a container do what docker's do: mounts, limits, parameters, names.

use tests::{Outcome, vm};

fn run(options: &[&str], script: &str) -> Outcome {
    vm().options(options).run(script)
}

#[test]
fn a_read_only_root_is_read_only_but_for_mounts() {
    let script = "for file in /x /etc/x /tmp/x /run/x /data/x /dev/shm/x; do
        if echo x 2>/dev/null >$file; then echo $file; fi; done; wc -l </etc/hosts";
    run(&["--tmpfs=/data"], script).prints("/x\n/etc/x\n/tmp/x\n/run/x\n/data/x\n/dev/shm/x\n7\n");
    run(&["--tmpfs=/data", "--read-only"], script).prints("/data/x\n/dev/shm/x\n7\n");
    run(&["--read-only", "--tmpfs=/tmp:size=1m"], script).prints("/tmp/x\n/dev/shm/x\n7\n");
}

#[test]
fn file_systems_in_memory_are_as_described() {
    let options = [
        "--tmpfs=/plain",
        "--tmpfs=/etc:exec,size=1m,mode=700,uid=1000",
        "--mount=type=tmpfs,target=/etc/below,tmpfs-size=2m,tmpfs-mode=1770,readonly",
    ];
    let script = "
        grep -E ' (/plain|/etc|/etc/below) tmpfs' /proc/mounts | cut -d' ' -f2-4
        stat -c '%n %a %u' /plain /etc /etc/below
        cp /bin/busybox /plain/true; /plain/true 2>/dev/null || echo no programs
        dd if=/dev/zero of=/etc/x bs=64k 2>/dev/null || stat -c %s /etc/x";
    run(&options, script).prints(
        "/etc tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=700,uid=1000\n\
         /etc/below tmpfs ro,nosuid,nodev,noexec,relatime,size=2048k,mode=1770\n\
         /plain tmpfs rw,nosuid,nodev,noexec,relatime\n\
         /plain 1777 0\n/etc 700 1000\n/etc/below 1770 0\nno programs\n1048576\n",
    );
    for refused in ["--tmpfs=/proc/x", "--tmpfs=data", "--tmpfs=/x:bogus"] {
        run(&[refused], "true").exits(125).complains("--tmpfs");
    }
    let twice = run(&["--tmpfs=/x", "--tmpfs=/x/"], "true");
    twice.exits(125).complains("/x");
    let pipe = run(&["--mount=type=npipe,source=/x,target=/host"], "true");
    pipe.exits(125).complains("no type");
    run(&["--tmpfs=/x:size=lots"], "true")
        .exits(125)
        .complains("/x");
}

#[test]
fn shared_memory_is_as_large_as_asked_for() {
    let size = "df -m /dev/shm | awk 'END { print $2 }'";
    run(&[], size).prints("64\n");
    run(&["--shm-size", "8m"], size).prints("8\n");
}

#[test]
fn resource_limits() {
    let limits = "ulimit -Sn; ulimit -Hn; ulimit -Su; ulimit -Sc; ulimit -Hc";
    let default = run(&[], limits).exits(0).out();
    assert!(
        default.starts_with("1048576\n1048576\nunlimited\n"),
        "{default}"
    );
    run(
        &[
            "--ulimit=nofile=100:200",
            "--ulimit=core=0",
            "--ulimit=nproc=500",
        ],
        limits,
    )
    .prints("100\n200\n500\n0\n0\n");
    let unknown = run(&["--ulimit=files=1"], "true");
    unknown.exits(125).complains("nofile");
}

#[test]
fn parameters_of_the_kernel() {
    let options = [
        "--sysctl=net.core.somaxconn=77",
        "--sysctl",
        "vm.max_map_count=262144",
    ];
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/vm/max_map_count";
    run(&options, script).prints("77\n262144\n");
    run(&["--sysctl=no.such=1"], "true")
        .exits(125)
        .complains("no.such");
}

#[test]
fn further_groups() {
    run(&["--user=user"], "id -G").prints("1000 10\n");
    run(
        &["--user=1234:5", "--group-add=wheel", "--group-add=77"],
        "id -G",
    )
    .prints("5 10 77\n");
    run(&["--group-add=no-such-group"], "true")
        .exits(125)
        .complains("no-such-group");
}

#[test]
fn names_and_name_servers() {
    let options = [
        "--network=none",
        "--hostname=web",
        "--domainname=example.org",
        "--add-host=db:192.0.2.7",
        "--add-host=six=2001:db8::1",
        "--dns=192.0.2.53",
        "--dns-search=example.com",
        "--dns-option=ndots:2",
    ];
    let script = "hostname; cat /proc/sys/kernel/domainname /etc/resolv.conf; tail -3 /etc/hosts";
    run(&options, script).prints(
        "web\nexample.org\n\
         nameserver 192.0.2.53\nsearch example.com\noptions ndots:2\n\
         127.0.1.1\tweb.example.org web\n192.0.2.7\tdb\n2001:db8::1\tsix\n",
    );
    run(&["--network=none"], "cat /etc/resolv.conf").prints("# This container has no network.\n");
    run(&["--add-host=db:nowhere"], "true")
        .exits(125)
        .complains("nowhere");
}

#[test]
fn system_calls_are_filtered_by_dockers_profiles() {
    let file = tests::fixture::scratch("profile")
        .unwrap()
        .join("profile.json");
    let option = format!("seccomp={}", file.display());
    let profile = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30 },
        { "names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS", "excludes": { "caps": ["CAP_SYS_ADMIN"] } } ] }"#;
    std::fs::write(&file, profile).unwrap();
    let script = "mkdir /x || echo refused; mount -t tmpfs x /tmp; echo $?; grep ^Seccomp: /proc/self/status";
    for more in [
        &[][..],
        &["--user=1000"],
        &["--security-opt=no-new-privileges"],
    ] {
        let options = [&["--security-opt", &option][..], more].concat();
        let outcome = run(&options, script);
        outcome
            .prints("refused\n159\nSeccomp:\t2\n")
            .complains("Read-only file system");
    }
    run(&["--security-opt", &option, "--cap-add=SYS_ADMIN"], script)
        .prints("refused\n0\nSeccomp:\t2\n");
    let lifted = [
        "--security-opt",
        &option,
        "--security-opt=seccomp=unconfined",
    ];
    run(
        &lifted,
        "mkdir /x && echo made; grep ^Seccomp: /proc/self/status",
    )
    .prints("made\nSeccomp:\t0\n");
    std::fs::write(&file, "{}").unwrap();
    run(&["--security-opt", &option], "true")
        .exits(125)
        .complains("of docker's form");
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    run(&["--security-opt", &option], "true")
        .exits(125)
        .complains("cannot be read");
}

#[test]
fn processes_are_bounded() {
    let script = "
        cat /sys/fs/cgroup/pids.max
        for n in $(seq 30); do sleep 1000 & done 2>&1
        cat /sys/fs/cgroup/pids.current";
    for cpus in ["--cpus=1", "--cpus=2"] {
        let bounded = run(&["--pids-limit=20", cpus], script);
        let told = bounded.out();
        assert!(
            told.starts_with("20\n") && told.contains("fork"),
            "{bounded:?}"
        );
        let free = run(&["--pids-limit=-1", cpus], script);
        assert_eq!(free.exits(0).out(), "max\n31\n", "{free:?}");
    }
}

#[test]
fn the_containers_control_group_is_the_root_of_what_it_sees() {
    let script = "cat /proc/self/cgroup; grep -c ^1$ /sys/fs/cgroup/cgroup.procs; cat /sys/fs/cgroup/cgroup.type;
        awk '$5 == \"/sys/fs/cgroup\" { print $4 }' /proc/self/mountinfo | tail -1";
    run(&[], script).prints("0::/\n0\ndomain\n/\n");
}

/// A block as large as all memory but 1 MiB: not refused when it is asked for, and not there when it is filled.
const GREEDY: &str = "dd if=/dev/zero of=/dev/null count=1 bs=$(awk '/MemTotal/ { print $2 - 1024 }' /proc/meminfo)k";

#[test]
fn a_command_that_takes_all_memory_is_killed() {
    run(&["--memory=64m"], &format!("exec {GREEDY}")).exits(137);
    let script = format!("{GREEDY} 2>/dev/null; echo $?; echo still here");
    let outlived = run(&["--memory=64m"], &script);
    outlived.prints("137\nstill here\n");
}

#[test]
fn an_init_is_always_there() {
    for option in ["--init", "--init=true", "--interactive"] {
        run(&[option], "[ $$ != 1 ] && cat /proc/1/comm").prints("init\n");
    }
}

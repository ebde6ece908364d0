//! The process half of guest init, driven as hull drives it, in a PID namespace of this machine: processes with pipes.

#[expect(dead_code, reason = "other tests use more of it")]
mod guest;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use guest::{Guest, process, sh};
use protocol::{Failure, FromGuest, FromHost, Limit, Privileges, ProcessId, Status, Stream};

#[test]
fn output_and_exit_code_come_back() {
    let end = Guest::run(sh(r"printf 'out\0\377'; printf err >&2; exit 7")).finish();
    assert_eq!(end.stdout, b"out\0\xff");
    assert_eq!(end.stderr, b"err");
    assert_eq!(end.status, Status::Code(7));
}

#[test]
fn a_stream_has_a_connection_from_its_first_byte_on() {
    let mut guest = Guest::run(sh("exec >&-; echo one >&2; sleep 0.2; echo two >&2"));
    let mut stderr = guest.stream(Stream::Stderr);
    let mut first = [0; 4];
    stderr.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"one\n");
    let end = guest.end_of(ProcessId(1));
    assert_eq!((end.stdout.len(), end.status), (0, Status::Code(0)));
    assert_eq!(guest.outputs(ProcessId(1)), 1, "for standard error alone");
    let mut quiet = Guest::run(process(&["true"]));
    assert_eq!(quiet.end_of(ProcessId(1)).status, Status::Code(0));
    assert_eq!(quiet.outputs(ProcessId(1)), 0);
}

#[test]
fn input_reaches_the_process_and_ends() {
    let mut wanted = sh("sort -n | tail -1; echo done");
    wanted.stdin = true;
    let mut guest = Guest::run(wanted);
    let mut stdin = guest.stream(Stream::Stdin);
    let writer = std::thread::spawn(move || {
        for number in 1..=100_000 {
            writeln!(stdin, "{number}").unwrap();
        }
        stdin.shutdown(Shutdown::Write).unwrap();
        stdin
    });
    let end = guest.finish();
    drop(writer.join().unwrap());
    assert_eq!(String::from_utf8(end.stdout).unwrap(), "100000\ndone\n");
}

#[test]
fn without_input_the_process_reads_nothing() {
    let end = Guest::run(sh("cat; readlink /proc/self/fd/0")).finish();
    assert_eq!(end.stdout, b"/dev/null\n");
}

#[test]
fn a_process_that_reads_no_more_is_told_to_the_host() {
    let mut wanted = sh("exec <&-; sleep 1000");
    wanted.stdin = true;
    let mut guest = Guest::run(wanted);
    let mut stdin = guest.stream(Stream::Stdin);
    assert_eq!(stdin.read(&mut [0]).unwrap_or(0), 0);
    guest.signal(9);
    assert_eq!(guest.finish().status, Status::Signal(9));
}

#[test]
fn a_host_that_wants_no_output_breaks_the_pipe() {
    let mut guest = Guest::run(process(&["yes"]));
    let mut stdout = guest.stream(Stream::Stdout);
    stdout.read_exact(&mut [0; 1000]).unwrap();
    drop(stdout);
    assert_eq!(guest.finish().status, Status::Signal(13));
}

#[test]
fn a_quiet_process_learns_of_it_when_it_writes() {
    let mut guest = Guest::run(sh(
        "trap '' USR1; read line </proc/self/fd/0; sleep 0.2; exec yes",
    ));
    drop(guest.stream(Stream::Stdout));
    assert_eq!(guest.finish().status, Status::Signal(13));
}

#[test]
fn much_output_survives_a_slow_host_without_burning_time() {
    let mut guest = Guest::run(sh("head -c 5000000 /dev/zero; echo end"));
    std::thread::sleep(Duration::from_millis(500));
    let used = guest.cpu_time();
    let mut stdout = guest.stream(Stream::Stdout);
    let mut output = Vec::new();
    stdout.read_to_end(&mut output).unwrap();
    assert_eq!(output.len(), 5_000_004);
    assert!(output.ends_with(b"\0end\n"));
    assert!(used < Duration::from_millis(100), "{used:?}");
    assert_eq!(guest.finish().status, Status::Code(0));
}

#[test]
fn signals_reach_the_process() {
    let mut guest = Guest::run(sh(
        "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.01; done",
    ));
    let mut stdout = guest.stream(Stream::Stdout);
    stdout.read_exact(&mut [0; 6]).unwrap();
    guest.signal(15);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "got it\n");
    assert_eq!(guest.finish().status, Status::Code(3));
}

#[test]
fn death_by_a_signal_is_not_an_exit_code() {
    assert_eq!(
        Guest::run(sh("kill -SEGV $$")).finish().status,
        Status::Signal(11)
    );
}

#[test]
fn signals_for_nobody_and_of_no_number_do_nothing() {
    let mut guest = Guest::run(sh("echo ready; sleep 0.1; exit 4"));
    guest
        .stream(Stream::Stdout)
        .read_exact(&mut [0; 6])
        .unwrap();
    guest.send(&FromHost::Signal {
        process: ProcessId(99),
        signal: 9,
    });
    guest.send(&FromHost::Signal {
        process: ProcessId(1),
        signal: 200,
    });
    assert_eq!(guest.finish().status, Status::Code(4));
}

#[test]
fn what_a_process_leaves_running_ends_with_it() {
    let begun = Instant::now();
    let end = Guest::run(sh("sleep 1000 & setsid sleep 1000 & echo done")).finish();
    assert_eq!(end.stdout, b"done\n");
    assert_eq!(end.status, Status::Code(0));
    assert!(begun.elapsed() < Duration::from_secs(500));
}

#[test]
fn orphans_are_buried() {
    let script = "sh -c 'sh -c \"exit 1\" & sh -c \"exit 2\" & exit 0'; sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status";
    let end = Guest::run(sh(script)).finish();
    assert_eq!(
        (end.stdout.as_slice(), end.status),
        (b"".as_slice(), Status::Code(1))
    );
}

#[test]
fn a_process_starts_from_a_clean_state() {
    let end = Guest::run(process(&["cat", "/proc/self/status"])).finish();
    let status = String::from_utf8(end.stdout).unwrap();
    let field = |name| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
    };
    for signals in ["SigBlk:", "SigCgt:", "SigPnd:"] {
        assert_eq!(field(signals), "0000000000000000", "{signals}");
    }
    // The C library's own signals, 32 and 33, may be ignored by who runs the tests.
    let ignored = u64::from_str_radix(field("SigIgn:"), 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0);
    assert_eq!(field("Umask:"), "0022");
    assert_ne!(field("CapEff:"), "0000000000000000");
}

#[test]
fn a_process_gets_three_descriptors_and_its_own_session() {
    let script = "echo $(ls /proc/self/fd); cut -d' ' -f6 /proc/$$/stat; echo $$; pwd";
    let end = Guest::run(sh(script)).finish();
    let output = String::from_utf8(end.stdout).unwrap();
    let lines: Vec<_> = output.lines().collect();
    // Who runs the tests may leave some open; init adds none.
    let plain = std::process::Command::new("sh")
        .args(["-c", "echo $(ls /proc/self/fd)"])
        .output()
        .unwrap();
    assert_eq!(
        lines[0],
        String::from_utf8(plain.stdout).unwrap().trim_end()
    );
    assert_eq!(lines[1], lines[2], "it leads its own session");
    assert_eq!(lines[3], "/");
}

#[test]
fn the_environment_is_dockers() {
    let mut wanted = process(&["env"]);
    wanted.env = vec!["A=1=2".into(), b"B=\xff".as_slice().into()];
    let end = Guest::run(wanted).finish();
    assert_eq!(
        end.stdout,
        b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=test\nA=1=2\nB=\xff\nHOME=/root\n"
    );
}

#[test]
fn another_user_can_open_its_streams_by_name() {
    let mut wanted =
        sh("id -u; id -g; id -G; echo again >/proc/self/fd/1; grep CapEff /proc/self/status");
    wanted.user = "nobody:4242".into();
    let end = Guest::run(wanted).finish();
    assert_eq!(
        String::from_utf8(end.stdout).unwrap(),
        "65534\n4242\n4242\nagain\nCapEff:\t0000000000000000\n",
        "{}",
        String::from_utf8_lossy(&end.stderr)
    );
}

#[test]
fn the_working_directory_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b//c");
    let mut wanted = process(&["pwd"]);
    wanted.cwd = path.clone().into_os_string().into();
    let end = Guest::run(wanted).finish();
    assert_eq!(
        String::from_utf8(end.stdout).unwrap().trim_end(),
        path.to_str().unwrap().replace("//", "/")
    );
}

#[test]
fn what_cannot_run_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, content: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(at(name), content).unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        at(name)
    };
    let plain = write("plain", "echo", 0o644);
    let garbage = write("garbage", "no program", 0o755);
    let script = write("script", "#!/nowhere/sh\n", 0o755);
    let gone = at("gone");
    let directory = directory.path().to_str().unwrap();
    for (argument, failure, message) in [
        (gone.as_str(), Failure::NotFound, format!("Program \"{gone}\" does not exist")),
        ("gone", Failure::NotFound, "Program \"gone\" is in no directory of PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)".into()),
        (&plain, Failure::NotExecutable, format!("Program \"{plain}\" cannot be executed: permission denied (EACCES)")),
        (&garbage, Failure::NotExecutable, format!("Program \"{garbage}\" cannot be executed: exec format error (ENOEXEC)")),
        (directory, Failure::NotExecutable, format!("Program \"{directory}\" cannot be executed: permission denied (EACCES)")),
        (&script, Failure::NotFound, format!("Program \"{script}\" exists, but its interpreter or loader does not")),
        ("", Failure::NotFound, "Program \"\" is in no directory of PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)".into()),
    ] {
        assert_eq!(Guest::fail(process(&[argument])), (failure, message));
    }
}

#[test]
fn what_cannot_be_set_up_is_told_apart() {
    let mut unknown = process(&["true"]);
    unknown.user = "nosuchuser".into();
    assert_eq!(
        Guest::fail(unknown),
        (
            Failure::Setup,
            "User \"nosuchuser\" is not in the image's /etc/passwd".into()
        )
    );
    let mut nowhere = process(&["true"]);
    nowhere.cwd = "/etc/passwd/x".into();
    assert_eq!(
        Guest::fail(nowhere),
        (
            Failure::Setup,
            "The guest cannot use as working directory /etc/passwd/x: not a directory (ENOTDIR)"
                .into()
        )
    );
    assert_eq!(
        Guest::fail(process(&["true", "a\0b"])),
        (
            Failure::Setup,
            "The argument a\\x00b contains a zero byte".into()
        )
    );
}

#[test]
fn a_host_that_hangs_up_ends_everything() {
    let mut guest = Guest::run(sh("sleep 1000"));
    guest.hang_up();
    assert_eq!(guest.last_words(), "The host closed the connection\n");
}

#[test]
fn a_host_that_talks_nonsense_ends_everything() {
    let mut guest = Guest::run(sh("sleep 1000"));
    guest.send_raw(&[0xff; 8]);
    assert_eq!(
        guest.last_words(),
        "A frame of 4294967295 bytes is over the limit of 1048576\n"
    );
}

#[test]
fn a_second_container_is_refused() {
    let mut guest = Guest::run(sh("sleep 1000"));
    let mut second = process(&["true"]);
    second.id = ProcessId(2);
    guest.send(&FromHost::Run {
        container: protocol::Container::default(),
        process: second,
    });
    let answer = guest.receive();
    assert!(
        matches!(
            answer,
            Some(FromGuest::Failed {
                process: ProcessId(2),
                failure: Failure::Setup,
                ..
            })
        ),
        "{answer:?}"
    );
}

#[test]
fn dockers_privileges_bound_root() {
    let bounding = |status: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .unwrap()
            .trim();
        u64::from_str_radix(line, 16).unwrap()
    };
    let mut wanted = process(&["cat", "/proc/self/status"]);
    wanted.privileges = Privileges {
        no_new: true,
        ..Privileges::DOCKER
    };
    let status = String::from_utf8(Guest::run(wanted).finish().stdout).unwrap();
    // Who runs the tests may be bound already.
    let own = bounding(&std::fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(bounding(&status), own & 0xa804_25fb);
    assert!(
        status.contains(&format!("CapEff:\t{:016x}", own & 0xa804_25fb)),
        "{status}"
    );
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}

#[test]
fn limits_are_set() {
    let mut wanted = process(&["bash", "-c", "ulimit -Sn; ulimit -Hn"]);
    wanted.limits = vec![Limit {
        resource: 7,
        soft: 64,
        hard: 128,
    }];
    assert_eq!(Guest::run(wanted).finish().stdout, b"64\n128\n");
    let mut impossible = process(&["true"]);
    impossible.limits = vec![Limit {
        resource: 200,
        soft: 1,
        hard: 1,
    }];
    let answer = Guest::fail(impossible);
    assert_eq!(
        answer,
        (
            Failure::Setup,
            "The guest cannot set resource limits: invalid argument (EINVAL)".into()
        )
    );
}

#[test]
fn filters_are_asked_for_every_call() {
    // Load the call's number; jump over the next unless it is mkdir(2), 83, or mkdirat(2), 258; fail with EROFS, 30; allow.
    let program: [(u16, u8, u8, u32); 5] = [
        (0x20, 0, 0, 0),
        (0x15, 1, 0, 83),
        (0x15, 0, 1, 258),
        (0x06, 0, 0, 0x0005_001e),
        (0x06, 0, 0, 0x7fff_0000),
    ];
    let bytes = program.iter().flat_map(|(code, yes, no, value)| {
        [&code.to_ne_bytes()[..], &[*yes, *no], &value.to_ne_bytes()].concat()
    });
    let bytes: Vec<u8> = bytes.collect();
    for (no_new, user) in [(false, "0"), (true, "0"), (false, "4711"), (true, "4711")] {
        let mut wanted = process(&[
            "bash",
            "-c",
            "mkdir /tmp/filtered-$$; grep ^Seccomp: /proc/self/status",
        ]);
        wanted.user = user.into();
        wanted.privileges.no_new = no_new;
        wanted.filters = vec![bytes.clone().into()];
        let finished = Guest::run(wanted).finish();
        let said = String::from_utf8_lossy(&finished.stderr).into_owned();
        assert!(
            said.contains("Read-only file system"),
            "{no_new} {user}: {said}"
        );
        assert_eq!(finished.stdout, b"Seccomp:\t2\n");
    }
    let mut broken = process(&["true"]);
    broken.filters = vec![bytes[..12].into()];
    let text = "The guest cannot install the seccomp filters: invalid argument (EINVAL)";
    assert_eq!(Guest::fail(broken), (Failure::Setup, text.into()));
}

#[test]
fn further_groups_are_joined() {
    let mut wanted = process(&["id", "-G"]);
    wanted.user = "4711:4712".into();
    wanted.groups = vec!["4713".into(), "tty".into()];
    // The kernel sorts them.
    assert_eq!(Guest::run(wanted).finish().stdout, b"4712 5 4713\n");
}

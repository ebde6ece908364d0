//! What a container writes is there when it starts again, however it ended; and what it may write is bounded.

use rustix::process::{Pid, Signal, kill_process};
use tests::run::Outcome;
use tests::{Container, hull, vm};

fn run(name: &'static str, options: &[&str], script: &str) -> (Container, Outcome) {
    let words = ["--name", name].into_iter().chain(options.iter().copied());
    let run = hull(["run"]).image(&tests::fixture::busybox());
    let container = Container(name);
    (container, run.options(words).run(script))
}

#[test]
fn what_was_written_is_there_at_the_next_start() {
    // A file, one in /tmp, a removed one of the image, attributes; each start adds a line, and shows them all.
    let script = "echo run >>/lines; echo x >>/tmp/lines; cat /lines /tmp/lines; ls /etc/gone; \
                  test -e /d/l || { rm -f /etc/hull-test; mkdir /d; ln -s e /d/l; chown 7:8 /d; }; \
                  stat -c '%u:%g %N' /d /d/l; df -T / | grep -c overlay";
    let (kept, first) = run("kept", &[], script);
    first.exits(0);
    assert!(first.out().starts_with("run\nx\n"), "{first:?}");
    let again = kept.verb("start", &["-a"], &[]).finish();
    again.exits(0);
    assert_eq!(again.out().matches("run\n").count(), 2, "{again:?}");
    assert_eq!(again.out().matches("x\n").count(), 2, "{again:?}");
    assert!(again.out().contains("7:8"), "{again:?}");
    // A reset machine is as a computer without power: what was made durable is there, and the file system is whole.
    let script = "test -e /durable && { cat /durable; exit 3; }; \
                  dd if=/dev/urandom of=/durable bs=1M count=4 2>/dev/null; \
                  echo last >>/durable; sync; echo ready; sleep 1000";
    let (killed, run) = run("kept-killed", &["-d"], script);
    run.exits(0);
    killed.wait_for("ready");
    let vmm = killed.field("State.Pid");
    let vmm = vmm.parse().ok().and_then(Pid::from_raw).expect("a process");
    kill_process(vmm, Signal::KILL).unwrap();
    killed.verb("wait", &[], &[]).finish().exits(0);
    let again = killed.verb("start", &["-a"], &[]).finish();
    again.exits(3);
    assert_eq!(again.stdout.len(), (4 << 20) + 5);
    assert!(again.stdout.ends_with(b"last\n"));
}

#[test]
fn a_disk_has_its_size_and_memory_keeps_nothing() {
    let script =
        "dd if=/dev/zero of=/big bs=1M count=20; echo $?; df -k / | awk 'NR==2{print $2<17000}'";
    let (full, outcome) = run("kept-full", &["--storage", "16m"], script);
    outcome.exits(0).complains("No space left");
    assert_eq!(outcome.out(), "1\n1\n");
    assert_eq!(full.field("HostConfig.StorageOpt.size"), "16777216");
    let (memory, run) = run("kept-not", &["--storage=0"], "echo x >>/x; wc -l </x");
    run.prints("1\n");
    memory.verb("start", &["-a"], &[]).finish().prints("1\n");
    // More than a file system in memory has room for.
    let big = "dd if=/dev/zero of=/big bs=1M count=24 2>/dev/null && wc -c </big";
    let run = vm()
        .options(["--memory", "48m", "--storage", "64m"])
        .run(big);
    run.prints("25165824\n");
    vm().options(["--storage", "1m"])
        .run("true")
        .exits(125)
        .complains("16m to 8t");
}

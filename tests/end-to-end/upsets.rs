//! What goes wrong around containers ends in a clear state and message, and what they suffer is told.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::fixture::{self, scratch};
use tests::registry::Registry;
use tests::run::store;
use tests::run::{Outcome, Running};
use tests::{Container, amount, hull};

use crate::registry::copy;

/// Where what is written down of a container is.
fn directory(container: &Container) -> PathBuf {
    store().join("containers").join(container.field("Id"))
}

fn signal(process: &str, signal: Signal) {
    let process = process.parse().ok().and_then(Pid::from_raw);
    kill_process(process.expect("a process"), signal).unwrap();
}

#[test]
fn a_supervisor_or_a_guest_that_does_not_answer_is_told_in_time() {
    let it = Container::detached("stands", &[], "exec sleep 1000");
    let (supervisor, vmm) = (it.field("State.SupervisorPid"), it.field("State.Pid"));
    // The guest stands still, and nobody has said so.
    signal(&vmm, Signal::STOP);
    let exec = it.verb("exec", &[], &["true"]).start();
    let told = exec.finish();
    told.exits(125).complains("The guest does not answer");
    signal(&vmm, Signal::CONT);
    it.verb("exec", &[], &["true"]).finish().exits(0);
    signal(&supervisor, Signal::STOP);
    let tries = [
        it.verb("exec", &[], &["true"]).start(),
        it.verb("stop", &["-t", "1"], &[]).start(),
        it.verb("kill", &[], &[]).start(),
        it.verb("pause", &[], &[]).start(),
        it.verb("wait", &[], &[]).start(),
        it.verb("attach", &[], &[]).start(),
        it.verb("top", &[], &[]).start(),
        it.verb("cp", &[], &[]).option("-").start(),
    ];
    let mut told: Vec<Outcome> = tries.map(Running::finish).into_iter().collect();
    // (`cp stands -` is no copy, but an error of its own.)
    told.pop().unwrap().exits(125);
    for outcome in told {
        assert!(!outcome.status.success(), "{outcome:?}");
        outcome.complains("The supervisor of container stands does not answer");
        outcome.complains("kill -CONT");
    }
    signal(&supervisor, Signal::CONT);
    it.verb("pause", &[], &[]).finish().exits(0);
    it.verb("exec", &[], &["true"])
        .finish()
        .complains("is paused");
    it.verb("unpause", &[], &[]).finish().exits(0);
    it.verb("exec", &[], &["true"]).finish().exits(0);
}

#[test]
fn a_corrupted_state_file_is_told_and_harms_no_other() {
    let (it, other) = (
        Container::detached("torn", &[], "exec sleep 1000"),
        Container::detached("whole", &[], "exec sleep 1000"),
    );
    it.verb("stop", &["-t", "0"], &[]).finish().exits(0);
    let directory = directory(&it);
    fs::write(directory.join("state.json"), "{\"status\":\"run").unwrap();
    assert_eq!(it.field("State.Status"), "exited");
    assert!(it.field("State.Error").contains("is damaged"));
    it.verb("start", &[], &[]).finish().exits(0);
    assert_eq!(it.field("State.Status"), "running");
    it.verb("stop", &["-t", "0"], &[]).finish().exits(0);
    let id = it.field("Id");
    let whole = fs::read(directory.join("config.json")).unwrap();
    fs::write(directory.join("config.json"), "\0\0\0\0").unwrap();
    for verb in ["start", "stop", "rm"] {
        hull([verb, &id]).finish().exits(1).complains("is damaged");
    }
    let list = hull(["ps", "--format", "{{.Names}}"]).finish();
    assert!(list.exits(0).out().contains("whole\n"), "{list:?}");
    assert_eq!(other.field("State.Status"), "running");
    fs::write(directory.join("config.json"), whole).unwrap();
    assert_eq!(it.field("State.Status"), "exited");
}

#[test]
fn many_start_at_once() {
    let number = amount("STARTS", 8);
    let names: Vec<&'static str> = (0..number)
        .map(|number| &*format!("many{number}").leak())
        .collect();
    let begun = Instant::now();
    let run = |name: &&'static str| {
        let run = hull(["run", "-d", "--memory", "64m", "--name", name]);
        let run = run.image(&fixture::busybox());
        let run = run.limit(tests::PATIENCE + Duration::from_secs(20 * number));
        run.command(["sleep", "10000"]).start()
    };
    let runs: Vec<_> = names.iter().map(run).collect();
    let all: Vec<_> = names.iter().map(|name| Container(name)).collect();
    for run in runs {
        run.finish().exits(0);
    }
    println!(
        "{number} containers started at once in {} s",
        begun.elapsed().as_secs()
    );
    for it in &all {
        assert_eq!(it.field("State.Status"), "running", "{}", it.0);
    }
    let words = ["rm", "-f"].into_iter().chain(names.iter().copied());
    hull(words)
        .limit(tests::PATIENCE + Duration::from_secs(5 * number))
        .finish()
        .exits(0);
    let left = hull(["ps", "-aq", "--filter", "name=many"]).finish();
    left.prints("");
}

#[test]
fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    let root = scratch("full-disk").unwrap();
    let mount = |words: &[&str]| {
        let status = Command::new("mount").args(words).arg(&root).status();
        assert!(status.unwrap().success(), "the lab's root may mount");
    };
    mount(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    let hull = |words: &[&str]| hull(words.iter().copied()).host_env("HULL_ROOT", &root);
    let line = "a line that is not short, and comes again and again until nothing has room for it";
    let script = format!("yes {line} | head -n 50000; exit 7");
    let run = hull(&["run", "-d", "--name", "full", "--start=cold", "--storage=0"]);
    run.image(&fixture::busybox()).run(&script).exits(0);
    let waited = hull(&["wait", "full"]).finish();
    waited.prints("7\n");
    let inspect = hull(&["inspect", "full", "--format"]);
    let inspect = inspect.option("{{.State.Status}} {{.State.ExitCode}}");
    inspect.finish().prints("exited 7\n");
    let log = hull(&["logs", "--tail", "1", "full"]).finish();
    assert!(log.exits(0).out().starts_with("a line"), "{log:?}");
    hull(&["rm", "full"]).finish().exits(0);
    // The VMM, whose end nobody waits for, may still have the image open.
    let status = Command::new("umount").arg("--lazy").arg(&root).status();
    assert!(status.unwrap().success());
    fs::remove_dir(&root).unwrap();
}

#[test]
fn events_tell_a_life_and_how_it_ended() {
    let directory = scratch("events").unwrap();
    let pidfile = directory.join("pid");
    // More than the memory: the kernel kills it.
    let script = "test -e /once && exit 3; touch /once; sync; sleep 1; tail /dev/zero";
    let options = [
        "--memory",
        "64m",
        "--label",
        "tier=events",
        "--log-opt",
        "max-size=4k",
        "--log-opt",
        "max-file=3",
    ];
    let options: Vec<_> = options
        .into_iter()
        .chain(["--pidfile", pidfile.to_str().unwrap()])
        .collect();
    let it = Container::detached("oom", &options, script);
    let pid = fs::read_to_string(&pidfile).unwrap();
    assert_eq!(pid, it.field("State.Pid"));
    it.verb("wait", &[], &[]).finish().prints("137\n");
    assert_eq!(it.field("State.OOMKilled"), "true");
    let inspect = it.verb("inspect", &[], &[]).finish().out();
    assert!(inspect.contains("\"max-size\": \"4096\""), "{inspect}");
    let again = it.verb("start", &["-a"], &[]).finish();
    again.exits(3);
    assert_eq!(it.field("State.OOMKilled"), "false");
    it.verb("rename", &[], &["oom-2"]).finish().exits(0);
    let it = Container("oom-2");
    it.verb("rm", &[], &[]).finish().exits(0);
    let events = hull([
        "events",
        "--since",
        "10m",
        "--until",
        "0m",
        "--filter",
        "label=tier=events",
        "--format",
    ]);
    let events = events
        .option("{{.Action}} {{.Actor.Attributes.exitCode}}")
        .finish();
    let told: Vec<String> = events
        .exits(0)
        .out()
        .lines()
        .map(|line| line.replace(" <no value>", ""))
        .collect();
    let told: Vec<&str> = told.iter().map(|line| line.trim_end()).collect();
    let expected = [
        "create", "start", "oom", "die 137", "start", "die 3", "rename", "destroy",
    ];
    assert_eq!(told, expected);
    let other = hull([
        "events",
        "--since",
        "10m",
        "--until",
        "0m",
        "--filter",
        "container=no-such",
    ]);
    other.finish().prints("");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn other_bounds_count_at_once_and_another_size_from_the_next_start() {
    let it = Container::detached("resized", &["--cpus", "2"], "exec sleep 1000");
    let bounds = "cd /sys/fs/cgroup; echo $(cat memory.max) $(cat cpu.max) $(cat pids.max)";
    let shows = |shown: &str| {
        let outcome = it.verb("exec", &[], &["sh", "-c", bounds]).finish();
        outcome.prints(&format!("{shown}\n"));
    };
    let update = |words: &[&str]| it.verb("update", words, &[]).finish();
    let words = ["--memory", "96m", "--cpus", "1", "--pids-limit", "30"];
    let outcome = update(&words);
    assert!(!outcome.exits(0).err().contains("note"));
    shows("100663296 100000 100000 30");
    // A command that takes more is killed, and it alone.
    let takes = "dd if=/dev/zero of=/dev/null bs=150M count=1; exit $?";
    let killed = it.verb("exec", &[], &["sh", "-c", takes]).finish();
    killed.exits(137);
    let forks = "for n in $(seq 40); do sleep 9 & done";
    let outcome = it.verb("exec", &[], &["sh", "-c", forks]).finish();
    outcome.exits(2).complains("fork");
    // Up again, as far as the machine goes, and what is more waits.
    let outcome = update(&["--memory", "320m", "--cpus", "3", "--pids-limit", "-1"]);
    outcome
        .exits(0)
        .complains("256 MiB and 2 processors until it is started again");
    shows("max max 100000 max");
    update(&["--memory", "96m", "--pids-limit", "40"]).exits(0);
    it.verb("restart", &["-t", "0"], &[]).finish().exits(0);
    let shown = "nproc; free -m | awk 'NR==2{print $2<96}'; cat /sys/fs/cgroup/pids.max";
    let shown = it.verb("exec", &[], &["sh", "-c", shown]);
    shown.finish().prints("3\n1\n40\n");
    // What no machine can have, and nothing at all.
    for words in [&["--memory", "1k"][..], &[]] {
        assert!(!update(words).status.success());
    }
}

#[test]
fn health_is_checked_and_told() {
    let options = [
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
    ];
    let it = Container::detached("health", &options, "exec sleep 1000");
    it.becomes("State.Health.Status", "unhealthy");
    it.verb("exec", &[], &["touch", "/well"]).finish().exits(0);
    it.becomes("State.Health.Status", "healthy");
    let list = hull([
        "ps",
        "--filter",
        "health=healthy",
        "--format",
        "{{.Names}} {{.Status}}",
    ])
    .finish();
    assert!(
        list.out().starts_with("health Up ") && list.out().ends_with("(healthy)\n"),
        "{list:?}"
    );
    it.verb("exec", &[], &["rm", "/well"]).finish().exits(0);
    it.becomes("State.Health.Status", "unhealthy");
    it.verb("stop", &["-t", "0"], &[]).finish().exits(0);
}

/// What has to make a thread or a process says so where there is no more of them, and no command panics.
#[test]
fn a_host_that_makes_no_more_threads_is_told() {
    let registry = Registry::start().unwrap();
    let image = registry.name("entries:1");
    copy(&fixture::entries(), &image, &[]);
    let container = Container::detached("no-threads", &[], "sleep 1000");
    let run = ["run", "--rm", "-i", &fixture::busybox(), "cat"];
    let verbs: [&[&str]; 5] = [
        &["pull", "-q", &image],
        &run,
        &["exec", "-i", container.0, "cat"],
        &["cp", "no-threads:/bin", "-"],
        &["commit", container.0, "threads:1"],
    ];
    let mut told = 0;
    for words in verbs {
        for number in 1..=4 {
            let fault = format!("inject=clone,clone3,fork,vfork:error=EAGAIN:when={number}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &fault];
            let outcome = hull(words.iter().copied())
                .under(strace)
                .feed("fed")
                .finish();
            let said = outcome.err();
            let in_words = outcome.status.success()
                || matches!(outcome.status.code(), Some(1 | 125)) && said.contains("error:");
            assert!(
                in_words && !said.contains("panicked at"),
                "{number} {words:?}: {outcome:?}"
            );
            told += u32::from(!outcome.status.success());
        }
    }
    assert!(told > 0, "nobody needed what there was none of");
    for image in [&image, "threads:1"] {
        let _ = hull(["rmi", image]).finish();
    }
}

//! Containers that outlive the command that made them: every verb, and what becomes of them when somebody dies.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::{Container, eventually, hull, vm};

fn kill(process: &str) {
    let process = process.parse().ok().and_then(Pid::from_raw);
    kill_process(process.expect("a process"), Signal::KILL).unwrap();
}

#[test]
fn a_container_lives_from_run_to_rm() {
    let script = "trap 'echo bye; exit 5' TERM; echo started; while :; do sleep 0.1; done";
    let web = Container::detached("life", &["-e", "A=1", "-w", "/tmp"], script);
    web.wait_for("started");
    let list = hull(["ps", "--filter", "name=life", "--format"]).option("{{.State}} {{.Status}}");
    let list = list.finish();
    assert!(list.out().starts_with("running Up "), "{list:?}");
    let shown = "echo $A-$B-$(pwd)-$(id -u); exit 4";
    let options = ["-e", "B=2", "-u", "7", "-w", "/usr"];
    let outcome = web.verb("exec", &options, &["sh", "-c", shown]).finish();
    outcome.exits(4);
    assert_eq!(outcome.out(), "1-2-/usr-7\n");
    let cat = web
        .verb("exec", &["-i"], &["wc", "-c"])
        .feed("x".repeat(300_000));
    cat.finish().prints("300000\n");
    web.verb("exec", &[], &["no-such-program"])
        .finish()
        .exits(127);
    web.verb("exec", &["-d"], &["touch", "/tmp/mark"])
        .finish()
        .exits(0);
    web.exec("while ! test -e mark; do sleep 0.1; done")
        .exits(0);
    web.verb("rm", &[], &[]).finish().exits(1).complains("runs");
    web.verb("stop", &[], &[]).finish().prints("life\n");
    assert_eq!(web.field("State.Status"), "exited");
    assert_eq!(web.field("State.ExitCode"), "5");
    assert_eq!(web.logs(&[]), "started\nbye\n");
    web.verb("wait", &[], &[]).finish().prints("5\n");
    web.exec("true").exits(125).complains("does not run");
    web.verb("start", &[], &[]).finish().prints("life\n");
    assert_eq!(web.field("State.Status"), "running");
    web.verb("kill", &[], &[]).finish().prints("life\n");
    assert_eq!(web.field("State.ExitCode"), "137");
    web.verb("rm", &[], &[]).finish().prints("life\n");
    for verb in ["inspect", "rm"] {
        web.verb(verb, &[], &[])
            .finish()
            .exits(1)
            .complains("no container");
    }
    web.verb("rm", &["-f"], &[]).finish().prints("");
}

#[test]
fn what_is_made_can_be_started_and_attached_to() {
    let made = hull(["create", "-i", "--name", "made", "--label", "tier=test"])
        .image(&tests::fixture::busybox())
        .run("while read line; do echo \"got $line\"; done; exit 6");
    let id = made.exits(0).out().trim().to_owned();
    let made = Container("made");
    assert_eq!(made.field("State.Status"), "created");
    let by_label = hull(["ps", "-aq", "--no-trunc", "--filter", "label=tier=test"]);
    by_label.finish().prints(&format!("{id}\n"));
    // By the beginning of its id.
    let short = id.get(..6).unwrap();
    hull(["start", short]).finish().exits(0);
    let attached = made.verb("attach", &[], &[]).feed("one\n").start();
    made.wait_for("got one");
    drop(attached);
    let again = made.verb("restart", &["-t", "1"], &[]).finish();
    again.exits(0);
    let attached = made.verb("attach", &["--no-stdin"], &[]).start();
    made.verb("stop", &["-t", "1"], &[]).finish().exits(0);
    attached.finish().exits(143);
    let again = made.verb("start", &["-a", "-i"], &[]).finish();
    assert_eq!(
        again.status.code(),
        Some(6),
        "its input is at its end: {again:?}"
    );
}

#[test]
fn logs_are_what_was_printed() {
    let script = "for n in 1 2 3; do echo line $n; echo error $n >&2; done; sleep 1; echo last";
    let talk = Container::detached("talk", &[], script);
    let all = talk.verb("logs", &["-f"], &[]).finish();
    all.exits(0);
    assert_eq!(all.out(), "line 1\nline 2\nline 3\nlast\n");
    assert_eq!(all.err(), "error 1\nerror 2\nerror 3\n");
    assert_eq!(talk.logs(&["--tail", "1"]), "last\n");
    let stamped = talk.logs(&["-t", "-n", "1"]);
    assert!(
        stamped.starts_with("20") && stamped.ends_with("Z last\n"),
        "{stamped}"
    );
    assert_eq!(talk.logs(&["--until", "1h"]), "");
    assert!(talk.logs(&["--since", "1h"]).ends_with("last\n"));
    let quiet = Container::detached("quiet", &["--log-driver", "none"], "echo unseen");
    quiet
        .verb("logs", &[], &[])
        .finish()
        .exits(1)
        .complains("keeps no log");
}

#[test]
fn a_paused_container_stands_still() {
    let clock = Container::detached("clock", &[], "while :; do echo tick; sleep 0.05; done");
    clock.wait_for("tick");
    clock.verb("pause", &[], &[]).finish().exits(0);
    assert_eq!(clock.field("State.Status"), "paused");
    let ticks = || clock.logs(&[]).lines().count();
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ticks(), before);
    clock.verb("unpause", &[], &[]).finish().exits(0);
    eventually("another tick", || ticks() > before);
    // Whoever is stopped while paused is ended all the same.
    clock.verb("pause", &[], &[]).finish().exits(0);
    clock.verb("stop", &["-t", "1"], &[]).finish().exits(0);
    assert_eq!(clock.field("State.ExitCode"), "143");
}

#[test]
fn a_failing_container_is_started_again_as_often_as_asked() {
    let fails = Container::detached("fails", &["--restart", "on-failure:2"], "echo once; exit 3");
    fails.becomes("State.Status", "exited");
    assert_eq!(fails.logs(&[]), "once\n".repeat(3));
    assert_eq!(fails.field("RestartCount"), "2");
    assert_eq!(fails.field("State.ExitCode"), "3");
    let always = Container::detached(
        "always",
        &["--restart", "always"],
        "echo up; exec sleep 1000",
    );
    always.wait_for("up");
    // What is told to end is not started again.
    always.verb("stop", &["-t", "0"], &[]).finish().exits(0);
    assert_eq!(always.field("State.Status"), "exited");
}

#[test]
fn a_killed_supervisor_leaves_an_exited_container_and_no_machine() {
    for state in ["running", "paused"] {
        let lost = Container::detached("lost", &[], "echo ready; exec sleep 1000");
        lost.wait_for("ready");
        if state == "paused" {
            lost.verb("pause", &[], &[]).finish().exits(0);
        }
        let machine = format!("/proc/{}", lost.field("State.Pid"));
        kill(&lost.field("State.SupervisorPid"));
        eventually("the VMM's end", || !std::path::Path::new(&machine).exists());
        assert_eq!(lost.field("State.Status"), "exited", "{state}");
        assert_eq!(lost.field("State.ExitCode"), "137", "{state}");
        lost.verb("start", &[], &[]).finish().exits(0);
        assert_eq!(lost.field("State.Status"), "running", "{state}");
    }
}

#[test]
fn a_killed_vmm_is_told() {
    let lost = Container::detached("headless", &[], "echo ready; exec sleep 1000");
    lost.wait_for("ready");
    kill(&lost.field("State.Pid"));
    let waited = lost.verb("wait", &[], &[]).finish();
    assert_eq!(waited.out(), "125\n");
    assert!(lost.field("State.Error").contains("VMM process died"));
}

#[test]
fn a_name_is_given_once_even_at_once() {
    let run = || {
        let run = hull(["run", "-d", "--name", "same"]).image(&tests::fixture::busybox());
        run.command(["sleep", "60"]).start()
    };
    let runs = [run(), run(), run()].map(tests::run::Running::finish);
    let _same = Container("same");
    let good = runs.iter().filter(|run| run.status.success()).count();
    assert_eq!(good, 1, "{runs:?}");
    for refused in runs.iter().filter(|run| !run.status.success()) {
        refused.exits(125).complains("is in use by container");
    }
}

#[test]
fn files_and_flags_around_a_run() {
    let directory = tests::fixture::scratch("cidfile").unwrap();
    let file = directory.join("id");
    let options = ["--name", "flagged", "--cidfile", file.to_str().unwrap()];
    let run = hull(["run", "--label=a=b"]).image(&tests::fixture::busybox());
    run.options(options).run("exit 2").exits(2);
    let flagged = Container("flagged");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), flagged.field("Id"));
    assert_eq!(flagged.field("Config.Labels"), "map[a:b]");
    assert_eq!(flagged.field("State.ExitCode"), "2");
    vm().options(["--cidfile", file.to_str().unwrap()])
        .run("true")
        .exits(125)
        .complains("cannot be made");
    vm().options(["--restart", "always"]).run("true").exits(125);
    vm().options(["--name", "-bad-"]).run("true").exits(125);
    hull(["rename", "flagged", "renamed"]).finish().exits(0);
    let renamed = Container("renamed");
    assert_eq!(renamed.field("Name"), "/renamed");
    hull(["container", "prune", "--filter", "label=a=b"])
        .finish()
        .exits(0);
    renamed.verb("inspect", &[], &[]).finish().exits(1);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn stats_tell_what_the_host_holds() {
    let idle = Container::detached("idle", &[], "exec sleep 1000");
    let stats = idle.verb(
        "stats",
        &["--no-stream", "--format", "{{.Name}} {{.MemUsage}}"],
        &[],
    );
    let stats = stats.finish();
    let text = stats.exits(0).out();
    let memory = text
        .strip_prefix("idle ")
        .and_then(|rest| rest.split("MB / 268MB").next());
    let memory: f64 = memory.unwrap().parse().unwrap();
    assert!((1.0..30.0).contains(&memory), "{text}");
}

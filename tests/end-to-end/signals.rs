//! SIGINT and SIGTERM to the launcher reach the command, which decides what comes of them.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use tests::fixture::busybox;
use tests::{Container, hull, vm};

#[test]
fn reach_a_command_that_handles_them() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT")] {
        let script =
            format!("trap 'echo got {name}; exit 9' {name}; echo ready; sleep 1000 & wait");
        let mut running = vm().command(["sh", "-c", &script]).start();
        running.wait_for("ready");
        running.signal(signal);
        running.wait_for(&format!("got {name}"));
        running.finish().exits(9);
    }
}

#[test]
fn end_a_command_that_does_not() {
    let mut running = vm()
        .command(["sh", "-c", "echo ready; exec sleep 1000"])
        .start();
    running.wait_for("ready");
    running.signal(Signal::TERM);
    running.finish().exits(143);
}

#[test]
fn end_the_client_alone_where_they_are_not_passed_on() {
    let _it = Container("unheard");
    let script = "trap 'echo heard; exit 3' TERM; while :; do echo ready; sleep 0.1; done";
    let run = hull(["run", "--name", "unheard", "--sig-proxy=false"]).image(&busybox());
    let attach = hull(["attach", "--sig-proxy=false", "unheard"]);
    for client in [run.command(["sh", "-c", script]), attach] {
        let mut client = client.start();
        client.wait_for("ready");
        client.signal(Signal::TERM);
        let status = client.finish().status;
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    }
    let show = ["inspect", "--format={{.State.Status}}", "unheard"];
    hull(show).finish().prints("running\n");
    let mut attached = hull(["attach", "unheard"]).start();
    attached.wait_for("ready");
    attached.signal(Signal::TERM);
    attached.wait_for("heard");
    attached.finish().exits(3);
    let log = hull(["logs", "unheard"]).finish().out();
    assert_eq!(log.matches("heard").count(), 1, "{log}");
}

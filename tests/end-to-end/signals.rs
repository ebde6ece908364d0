//! SIGINT and SIGTERM to the launcher reach the command, which decides what comes of them.

use rustix::process::Signal;
use tests::vm;

#[test]
fn reach_a_command_that_handles_them() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT")] {
        let script = format!("trap 'echo got {name}; exit 9' {name}; echo ready; sleep 60 & wait");
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
        .command(["sh", "-c", "echo ready; exec sleep 60"])
        .start();
    running.wait_for("ready");
    running.signal(Signal::TERM);
    running.finish().exits(143);
}

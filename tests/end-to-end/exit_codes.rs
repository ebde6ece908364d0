//! The exit code is the command's own; 128 + N for signal N; 125, 126 and 127 when there was no command to end.

use tests::{hull, vm};

#[test]
fn are_the_commands_own() {
    for code in [0, 1, 7, 124, 255] {
        vm().run(&format!("exit {code}")).exits(code);
    }
}

#[test]
fn tell_the_signal_that_ended_the_command() {
    vm().run("kill -KILL $$").exits(137);
    vm().run("kill -SEGV $$").exits(139);
}

#[test]
fn a_missing_command_is_127() {
    vm().command(["no-such-command"])
        .finish()
        .exits(127)
        .complains("no-such-command");
    vm().command(["/no/such/command"])
        .finish()
        .exits(127)
        .complains("/no/such/command");
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    vm().command(["/etc/passwd"])
        .finish()
        .exits(126)
        .complains("/etc/passwd");
    vm().command(["/etc"]).finish().exits(126).complains("/etc");
}

#[test]
fn what_the_launcher_cannot_do_is_125() {
    hull(["run", "--no-such-option"])
        .finish()
        .exits(125)
        .complains("--no-such-option");
    vm().image("docker-archive:/no/such/file.tar")
        .run("true")
        .exits(125)
        .complains("/no/such/file.tar");
}

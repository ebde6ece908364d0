//! Processes with a terminal, in a PID namespace of this machine.

#[expect(dead_code, reason = "other tests use more of it")]
mod guest;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use guest::{Guest, process, sh};
use protocol::{FromGuest, FromHost, Process, ProcessId, Status, Stream, WindowSize};

const SIZE: WindowSize = WindowSize {
    rows: 33,
    columns: 101,
};

fn with_terminal(mut process: Process) -> Process {
    process.terminal = Some(SIZE);
    process.stdin = true;
    process
}

fn start(process: Process) -> (Guest, UnixStream) {
    let mut guest = Guest::run(with_terminal(process));
    let terminal = guest.stream(Stream::Terminal);
    (guest, terminal)
}

/// All output, and how it ended.
fn finish(mut guest: Guest, mut terminal: &UnixStream) -> (String, Status) {
    let mut output = String::new();
    terminal.read_to_string(&mut output).unwrap();
    match guest.receive() {
        Some(FromGuest::Exited { status, .. }) => (output, status),
        other => panic!("{other:?}"),
    }
}

/// Reads until this has come.
fn expect(mut terminal: &UnixStream, wanted: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(wanted.as_bytes()) {
        let mut byte = [0];
        terminal
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {}", seen.escape_ascii()));
        seen.extend(byte);
    }
}

#[test]
fn all_three_streams_are_a_terminal_of_the_size_asked_for() {
    let script =
        "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM && tty | cut -d/ -f1-3";
    let (guest, terminal) = start(sh(script));
    assert_eq!(
        finish(guest, &terminal),
        ("33 101\r\nxterm\r\n/dev/pts\r\n".into(), Status::Code(0))
    );
}

#[test]
fn what_is_typed_arrives() {
    let (guest, mut terminal) = start(sh("stty -echo; echo ready; read line; echo got $line"));
    expect(&terminal, "ready\r\n");
    terminal.write_all(b"some words\r").unwrap();
    assert_eq!(
        finish(guest, &terminal),
        ("got some words\r\n".into(), Status::Code(0))
    );
}

#[test]
fn the_interrupt_key_is_a_signal() {
    let (guest, mut terminal) = start(sh("echo ready; exec sleep 1000"));
    expect(&terminal, "ready\r\n");
    terminal.write_all(b"\x03").unwrap();
    assert_eq!(finish(guest, &terminal), ("^C".into(), Status::Signal(2)));
}

#[test]
fn a_shell_controls_its_jobs() {
    let (guest, terminal) = start(process(&[
        "bash",
        "-c",
        "set -m; sleep 0.1 & fg >/dev/null; echo back; exit 5",
    ]));
    assert_eq!(
        finish(guest, &terminal),
        ("back\r\n".into(), Status::Code(5))
    );
}

#[test]
fn a_changed_window_is_noticed() {
    let (mut guest, terminal) = start(sh(
        "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done",
    ));
    expect(&terminal, "ready\r\n");
    let size = WindowSize {
        rows: 7,
        columns: 8,
    };
    guest.send(&FromHost::Resize {
        process: ProcessId(1),
        size,
    });
    guest.send(&FromHost::Resize {
        process: ProcessId(9),
        size,
    });
    assert_eq!(
        finish(guest, &terminal),
        ("7 8\r\n".into(), Status::Code(0))
    );
}

#[test]
fn output_is_complete_at_the_end() {
    let (guest, terminal) = start(process(&["seq", "1", "20000"]));
    let (output, status) = finish(guest, &terminal);
    assert_eq!(output.lines().count(), 20_000);
    assert!(output.ends_with("20000\r\n"));
    assert_eq!(status, Status::Code(0));
}

#[test]
fn what_holds_the_terminal_open_is_not_waited_for() {
    let (guest, terminal) = start(sh("setsid sleep 1000 & echo done"));
    assert_eq!(
        finish(guest, &terminal),
        ("done\r\n".into(), Status::Code(0))
    );
}

#[test]
fn input_may_end_before_output() {
    let (guest, terminal) = start(sh("echo ready; sleep 0.3; echo still here"));
    expect(&terminal, "ready\r\n");
    terminal.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        finish(guest, &terminal),
        ("still here\r\n".into(), Status::Code(0))
    );
}

#[test]
fn a_terminal_that_the_host_closes_hangs_up() {
    let (mut guest, terminal) = start(sh(
        "echo ready; while echo more; do sleep 0.01; done; sleep 1000",
    ));
    expect(&terminal, "ready\r\n");
    drop(terminal);
    let end = guest.receive();
    assert!(
        matches!(
            end,
            Some(FromGuest::Exited {
                status: Status::Signal(1),
                ..
            })
        ),
        "{end:?}"
    );
}

#[test]
fn another_user_owns_its_terminal() {
    let mut wanted = with_terminal(sh("stat -c %u $(tty); echo again > $(tty)"));
    wanted.user = "4711".into();
    let mut guest = Guest::run(wanted);
    let terminal = guest.stream(Stream::Terminal);
    assert_eq!(
        finish(guest, &terminal),
        ("4711\r\nagain\r\n".into(), Status::Code(0))
    );
}

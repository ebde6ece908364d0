//! Further processes beside the first, in a PID namespace of this machine.

#[expect(dead_code, reason = "other tests use more of it")]
mod guest;

use guest::{Guest, process, sh};
use protocol::{Failure, FromGuest, FromHost, Process, ProcessId, Status};

fn numbered(id: u32, mut process: Process) -> Process {
    process.id = ProcessId(id);
    process
}

/// Starts a process, reads all it writes, and gives that with its end.
fn complete(guest: &mut Guest, process: Process) -> (String, Status) {
    let id = process.id;
    guest.exec(process);
    let end = guest.end_of(id);
    let output = [end.stdout, end.stderr].concat();
    (String::from_utf8(output).unwrap(), end.status)
}

#[test]
fn a_further_process_has_streams_and_an_end_of_its_own() {
    let mut guest = Guest::run(sh("sleep 1000"));
    let answer = complete(
        &mut guest,
        numbered(2, sh("echo out; echo err >&2; exit 3")),
    );
    assert_eq!(answer, ("out\nerr\n".into(), Status::Code(3)));
    guest.signal(9);
    assert_eq!(guest.finish().status, Status::Signal(9));
}

#[test]
fn a_further_process_that_cannot_run_changes_nothing() {
    let mut guest = Guest::run(sh("sleep 1000"));
    guest.send(&FromHost::Exec {
        process: numbered(2, process(&["/nowhere/x"])),
    });
    let answer = guest.receive();
    assert!(
        matches!(
            &answer,
            Some(FromGuest::Failed {
                process: ProcessId(2),
                failure: Failure::NotFound,
                ..
            })
        ),
        "{answer:?}"
    );
    assert_eq!(
        complete(&mut guest, numbered(3, sh("echo fine"))),
        ("fine\n".into(), Status::Code(0))
    );
}

#[test]
fn the_first_process_ends_all_others() {
    let mut guest = Guest::run(sh("read line < /proc/self/fd/0; sleep 0.2"));
    guest.exec(numbered(2, sh("sleep 1000")));
    let ends = [guest.receive(), guest.receive()].map(|message| match message {
        Some(FromGuest::Exited {
            process: ProcessId(number),
            status,
            ..
        }) => (number, status),
        other => panic!("{other:?}"),
    });
    assert!(ends.contains(&(1, Status::Code(0))), "{ends:?}");
    assert!(ends.contains(&(2, Status::Signal(9))), "{ends:?}");
}

#[test]
fn a_further_process_does_not_wait_for_what_it_leaves_running() {
    let mut guest = Guest::run(sh("sleep 1000"));
    let answer = complete(&mut guest, numbered(2, sh("sleep 1000 & echo done")));
    assert_eq!(answer, ("done\n".into(), Status::Code(0)));
}

#[test]
fn many_processes_leave_nothing_open() {
    let mut guest = Guest::run(sh("sleep 1000"));
    complete(&mut guest, numbered(2, process(&["true"])));
    let before = guest.descriptors();
    for number in 3..200 {
        assert_eq!(
            complete(&mut guest, numbered(number, process(&["true"]))).1,
            Status::Code(0)
        );
    }
    assert_eq!(guest.descriptors(), before);
}

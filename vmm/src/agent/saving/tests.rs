//! Snapshots of guests that behave, with a VMM that says what it is told to.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use protocol::{FromGuest, FromHost, ProcessId, Status, Stream};

use super::super::tests::{Guest, exited, next, output, run_with, send, started};
use crate::agent::Client;
use crate::control::{Answer, Listener, Request, Socket};
use crate::vmm::{Order, Word, send_word};

fn draft() -> (tempfile::TempDir, std::fs::File) {
    let directory = tempfile::tempdir().unwrap();
    for name in [crate::snapshot::MACHINE, crate::snapshot::MEMORY] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let opened = std::fs::File::open(directory.path()).unwrap();
    (directory, opened)
}

/// What the client was told.
fn told(client: &Socket) -> Result<(), String> {
    match client.receive(true).unwrap().unwrap().0 {
        Answer::Done => Ok(()),
        Answer::Refused(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_of_what_does_not_run_is_refused() {
    let ((_directory, place), (client, asking)) = (draft(), Socket::pair().unwrap());
    client
        .send(&Request::Snapshot { live: false }, Some(place.as_fd()))
        .unwrap();
    let (outcome, guest) = run_with(
        vec![Client::new(asking)],
        None,
        |agent| agent.run(),
        |guest| {
            let mut control = guest.hello();
            next(&mut control);
            send(&mut control, &started(1));
            output(&guest, Stream::Stdout);
            output(&guest, Stream::Stderr);
            send(&mut control, &exited(0));
            (control, guest)
        },
    );
    assert_eq!(told(&client).unwrap_err(), "it does not run");
    assert_eq!(outcome.unwrap().status, Status::Code(0));
    drop(guest);
}

/// Runs a guest whose client asks for a snapshot, up to the order that its VMM gets; then what it is told.
fn saved(
    live: bool,
    then: impl FnOnce(&Guest, &mut UnixStream, &Socket, &dyn Fn() -> Socket) + Send + 'static,
) {
    let (_directory, asks) = draft();
    let listening = tempfile::tempdir().unwrap();
    let place = std::fs::File::open(listening.path()).unwrap();
    let listener = Listener::bind(place.as_fd()).unwrap();
    let (outcome, guest) = run_with(
        Vec::new(),
        Some(&listener),
        |agent| agent.run(),
        move |guest| {
            let mut control = guest.hello();
            next(&mut control);
            send(&mut control, &started(1));
            let connect = || Socket::connect(place.as_fd()).unwrap();
            let client = connect();
            client.send(&Request::Start { bound: false }, None).unwrap();
            let started = client.receive::<Answer>(true).unwrap();
            assert!(matches!(started, Some((Answer::Started, _))), "{started:?}");
            let client = connect();
            let request = Request::Snapshot { live };
            client.send(&request, Some(asks.as_fd())).unwrap();
            assert_eq!(next(&mut control), FromHost::Rest { sync: false });
            send(&mut control, &FromGuest::Resting);
            let order = Order::receive(&guest.report).unwrap();
            let as_asked = match order {
                Order::Hold(_) => !live,
                Order::Part(_) => live,
                _ => false,
            };
            assert!(as_asked, "{order:?}");
            then(&guest, &mut control, &client, &connect);
            output(&guest, Stream::Stdout);
            output(&guest, Stream::Stderr);
            send(&mut control, &exited(0));
            (control, guest)
        },
    );
    assert_eq!(outcome.unwrap().status, Status::Code(0));
    drop(guest);
}

fn full() -> Result<(), String> {
    Err("the disk is full".to_owned())
}

/// The VMM says that it holds the machine, and hears that it is to let it go on.
fn held(guest: &Guest) {
    send_word(&guest.report, &Word::Held(Ok(()))).unwrap();
    let order = Order::receive(&guest.report).unwrap();
    assert!(matches!(order, Order::GoOn), "{order:?}");
}

#[test]
fn a_snapshot_waits_for_guest_and_vmm_and_lets_both_go_on() {
    saved(false, |guest, control, client, _| {
        held(guest);
        assert_eq!(next(control), FromHost::GoOn);
        assert_eq!(told(client), Ok(()));
    });
    for live in [false, true] {
        saved(live, |guest, control, client, _| {
            send_word(&guest.report, &Word::Held(full())).unwrap();
            assert_eq!(next(control), FromHost::GoOn);
            assert_eq!(told(client), full());
        });
    }
}

#[test]
fn a_live_snapshot_is_made_when_the_memory_of_a_container_that_goes_on_is_written() {
    for written in [Ok(()), full()] {
        saved(true, move |guest, control, client, connect| {
            held(guest);
            assert_eq!(next(control), FromHost::GoOn);
            // The container does all it is asked for, but for a second snapshot and a pause.
            let (_another, asks) = draft();
            let second = connect();
            let request = Request::Snapshot { live: true };
            second.send(&request, Some(asks.as_fd())).unwrap();
            let why = told(&second).unwrap_err();
            assert_eq!(why, "another snapshot of it is being made");
            second.send(&Request::Pause, None).unwrap();
            assert!(told(&second).unwrap_err().contains("busy"));
            second.send(&Request::Signal(10), None).unwrap();
            assert_eq!(told(&second), Ok(()));
            let (process, signal) = (ProcessId(1), 10);
            assert_eq!(next(control), FromHost::Signal { process, signal });
            assert!(client.receive::<Answer>(false).unwrap().is_none());
            send_word(&guest.report, &Word::Written(written.clone())).unwrap();
            assert_eq!(told(client), written);
        });
    }
}

#[test]
fn a_word_that_nobody_waits_for_changes_nothing() {
    saved(true, |guest, control, client, connect| {
        held(guest);
        assert_eq!(next(control), FromHost::GoOn);
        send_word(&guest.report, &Word::Written(full())).unwrap();
        assert_eq!(told(client), full());
        send_word(&guest.report, &Word::Written(Ok(()))).unwrap();
        let second = connect();
        second.send(&Request::Greet, None).unwrap();
        assert_eq!(told(&second), Ok(()));
    });
}

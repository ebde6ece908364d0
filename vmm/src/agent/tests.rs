//! Runs against guests that behave, lie, flood and stay silent.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use protocol::{AGENT_PORT, Attach, ENTROPY, Failure, Hello, Opening, ProcessId, VERSION, encode};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::opening::MOST_PENDING;
use super::*;
use crate::control::Listener;
use crate::machine::report::{Counts, End, Report, Timings};
use crate::vmm::{Word, send_word};

/// The guest's side of a run, with a VMM that only passes connections on.
pub(super) struct Guest {
    channel: OwnedFd,
    pub(super) report: OwnedFd,
}

impl Guest {
    fn connect(&self) -> UnixStream {
        self.pass(&AGENT_PORT.to_le_bytes())
    }

    /// A connection that was there when the machine was saved.
    fn survivor(&self) -> UnixStream {
        self.pass(&[AGENT_PORT.to_le_bytes(), 9_u32.to_le_bytes()].concat())
    }

    fn pass(&self, text: &[u8]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let _ = sendmsg(
            &self.channel,
            &[IoSlice::new(text)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        ours
    }

    fn open(&self, opening: Opening) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(&encode(&opening).unwrap()).unwrap();
        stream
    }

    pub(super) fn hello(&self) -> UnixStream {
        self.open(Opening::Hello(Hello {
            version: VERSION,
            tsc_at_start: 1,
        }))
    }
}

fn process() -> Process {
    Process {
        id: ProcessId(1),
        argv: vec!["true".into()],
        env: Vec::new(),
        cwd: "/".into(),
        user: "".into(),
        groups: Vec::new(),
        stdin: false,
        terminal: None,
        privileges: protocol::Privileges::FULL,
        limits: Vec::new(),
        filters: Vec::new(),
    }
}

/// Runs the agent against a guest that behaves as told.
fn run<T: Send + 'static>(
    guest: impl FnOnce(Guest) -> T + Send + 'static,
) -> (Result<Outcome, AgentError>, JoinHandle<T>) {
    run_with(Vec::new(), None, |agent| agent.run(), guest)
}

/// The same for these clients, and an agent that is told how to run.
pub(super) fn run_with<T: Send + 'static>(
    mut clients: Vec<Client>,
    listener: Option<&Listener>,
    way: impl FnOnce(Agent<'_>) -> Result<Outcome, AgentError>,
    guest: impl FnOnce(Guest) -> T + Send + 'static,
) -> (Result<Outcome, AgentError>, JoinHandle<T>) {
    let (mut vmm, report, channel) = Vmm::of_test(crate::jail::Process::of_test());
    let guest = thread::spawn(move || guest(Guest { channel, report }));
    let task = Task {
        container: Container::default(),
        process: process(),
    };
    let (mut signals, mut told) = (Signals::catch().unwrap(), false);
    let watcher = Watcher {
        container: None,
        listener,
        clients: &mut clients,
        told: &mut told,
    };
    let outcome = way(Agent::new(&mut vmm, task, &mut signals, watcher, &None));
    (outcome, guest)
}

pub(super) fn send(control: &mut UnixStream, message: &FromGuest) {
    control.write_all(&encode(message).unwrap()).unwrap();
}

pub(super) fn exited(code: u8) -> FromGuest {
    FromGuest::Exited {
        process: ProcessId(1),
        status: Status::Code(code),
        tsc: 3,
        outputs: 2,
    }
}

#[test]
fn a_run_gives_the_status_and_the_process_it_was_asked_for() {
    let (outcome, guest) = run(|guest| {
        let mut control = guest.hello();
        let asked = protocol::read::<FromHost>(&mut control).unwrap();
        let stdout = guest.open(Opening::Attach(Attach {
            process: ProcessId(1),
            stream: Stream::Stdout,
        }));
        send(
            &mut control,
            &FromGuest::Started {
                process: ProcessId(1),
                tsc: 2,
            },
        );
        drop(stdout);
        send(&mut control, &exited(7));
        // The connection of a stream may arrive after word of the end: it is waited for.
        thread::sleep(DRAIN_LIMIT / 4);
        drop(guest.open(Opening::Attach(Attach {
            process: ProcessId(1),
            stream: Stream::Stderr,
        })));
        // The host closes first.
        assert_eq!(control.read(&mut [0]).unwrap(), 0);
        asked
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status, Status::Code(7));
    assert_eq!(outcome.ticks, [1, 2, 3]);
    let container = Container::default();
    let asked = guest.join().unwrap();
    assert_eq!(
        asked,
        Some(FromHost::Run {
            container,
            process: process()
        })
    );
}

#[test]
fn what_comes_along_with_a_streams_opening_is_passed_on_at_once() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let limit = Duration::from_secs(60);
    ours.set_read_timeout(Some(limit)).unwrap();
    let (mut guest, stream) = UnixStream::pair().unwrap();
    let fan = Fan::new(Stream::Stdout, None);
    fan.attach(theirs, true);
    let output = Output::new(Sink::Fan(fan), stream, b"first ".to_vec()).unwrap();
    let mut heard = [0; 11];
    ours.read_exact(&mut heard[..6]).unwrap();
    guest.write_all(b"then\n").unwrap();
    drop(guest);
    ours.read_exact(&mut heard[6..]).unwrap();
    assert_eq!(&heard, b"first then\n");
    drop(output);
}

#[test]
fn a_process_that_never_ran_is_told_apart_from_one_that_ended() {
    let (outcome, _) = run(|guest| {
        let mut control = guest.hello();
        send(
            &mut control,
            &FromGuest::Failed {
                process: ProcessId(1),
                failure: Failure::NotFound,
                message: "nope".into(),
            },
        );
        (guest, control)
    });
    match outcome {
        Err(AgentError::Failed(message, Failure::NotFound)) => assert_eq!(message, "nope"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_left_open_after_the_exit_is_given_up() {
    let (outcome, _) = run(|guest| {
        let mut control = guest.hello();
        let stdout = guest.open(Opening::Attach(Attach {
            process: ProcessId(1),
            stream: Stream::Stdout,
        }));
        send(&mut control, &exited(0));
        thread::sleep(Duration::from_millis(1));
        (guest, control, stdout)
    });
    assert_eq!(outcome.unwrap().status, Status::Code(0));
}

#[test]
fn silence_ends() {
    let (outcome, _) = run(|guest| {
        thread::sleep(BOOT_LIMIT * 2);
        guest
    });
    assert!(matches!(outcome, Err(AgentError::Silent)), "{outcome:?}");
    // Half an opening is silence too.
    let (outcome, _) = run(|guest| {
        let mut half = guest.connect();
        half.write_all(&[9, 0, 0]).unwrap();
        thread::sleep(BOOT_LIMIT * 2);
        (guest, half)
    });
    assert!(matches!(outcome, Err(AgentError::Silent)), "{outcome:?}");
}

#[test]
fn a_closed_control_connection_ends_in_time_though_the_guest_goes_on() {
    let (outcome, _) = run(|guest| {
        let mut control = guest.hello();
        protocol::read::<FromHost>(&mut control).unwrap();
        drop(control);
        thread::sleep(DRAIN_LIMIT * 5);
        guest
    });
    assert!(
        matches!(outcome, Err(AgentError::Protocol(_))),
        "{outcome:?}"
    );
}

#[test]
fn lies_end_the_run() {
    let lies: [fn(&Guest) -> Vec<UnixStream>; 7] = [
        |guest| {
            let mut control = guest.hello();
            send(&mut control, &FromGuest::Resting);
            vec![control]
        },
        |guest| vec![guest.hello(), guest.hello()],
        |guest| {
            let process = ProcessId(2);
            let stream = Stream::Stdout;
            vec![guest.open(Opening::Attach(Attach { process, stream }))]
        },
        |guest| {
            let attach = Attach {
                process: ProcessId(1),
                stream: Stream::Stderr,
            };
            vec![
                guest.open(Opening::Attach(attach)),
                guest.open(Opening::Attach(attach)),
            ]
        },
        |guest| {
            let attach = Attach {
                process: ProcessId(1),
                stream: Stream::Stdin,
            };
            vec![guest.open(Opening::Attach(attach))]
        },
        |guest| {
            let mut control = guest.hello();
            control.write_all(&u32::MAX.to_le_bytes()).unwrap();
            vec![control]
        },
        |guest| {
            let mut control = guest.hello();
            let started = FromGuest::Started {
                process: ProcessId(9),
                tsc: 0,
            };
            send(&mut control, &started);
            vec![control]
        },
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let (outcome, _) = run(move |guest| {
            let streams = lie(&guest);
            thread::sleep(DRAIN_LIMIT * 2);
            (guest, streams)
        });
        let told = matches!(outcome, Err(AgentError::Protocol(_) | AgentError::Frame(_)));
        assert!(told, "lie {index}: {outcome:?}");
    }
}

#[test]
fn a_flood_of_connections_is_dropped_and_the_run_goes_on() {
    let (outcome, _) = run(|guest| {
        let kept: Vec<UnixStream> = (0..MOST_PENDING * 4).map(|_| guest.connect()).collect();
        drop(kept);
        let mut control = guest.hello();
        send(&mut control, &exited(3));
        (guest, control)
    });
    assert_eq!(outcome.unwrap().status, Status::Code(3));
}

#[test]
fn the_vmms_last_word_is_told() {
    let (outcome, _) = run(|guest| {
        let message = "Attempted to kill init!".into();
        let report = Report {
            end: End::Panic { message },
            counts: Counts::default(),
            timings: Timings::default(),
        };
        send_word(&guest.report, &Word::Report(report)).unwrap();
    });
    let error = outcome.unwrap_err().to_string();
    assert_eq!(
        error,
        "The guest's kernel panicked: Attempted to kill init!"
    );
}

#[test]
fn a_vmm_that_dies_without_a_word_is_noticed() {
    let (outcome, _) = run(drop);
    assert!(matches!(outcome, Err(AgentError::Died(_))), "{outcome:?}");
}

#[test]
fn an_exit_said_before_the_vmms_end_counts() {
    let (outcome, _) = run(|guest| {
        let mut control = guest.hello();
        send(&mut control, &exited(5));
    });
    assert_eq!(outcome.unwrap().status, Status::Code(5));
}

/// What a restored machine hears first: what makes it another one, and then what to run.
fn renewed(control: &mut UnixStream) -> protocol::Renewal {
    let renewal = match protocol::read::<FromHost>(control).unwrap() {
        Some(FromHost::Renew(renewal)) => renewal,
        other => panic!("{other:?}"),
    };
    let next = protocol::read::<FromHost>(control).unwrap();
    assert!(matches!(next, Some(FromHost::Run { .. })), "{next:?}");
    renewal
}

pub(super) fn started(process: u32) -> FromGuest {
    let process = ProcessId(process);
    FromGuest::Started { process, tsc: 2 }
}

pub(super) fn output(guest: &Guest, stream: Stream) {
    let process = ProcessId(1);
    drop(guest.open(Opening::Attach(Attach { process, stream })));
}

#[test]
fn a_restored_machine_becomes_another_before_it_runs_anything() {
    let once = || {
        let (outcome, guest) = run(|guest| {
            let mut control = guest.survivor();
            let renewal = renewed(&mut control);
            send(&mut control, &started(1));
            output(&guest, Stream::Stdout);
            output(&guest, Stream::Stderr);
            send(&mut control, &exited(7));
            (renewal, control, guest)
        });
        let outcome = outcome.unwrap();
        assert_eq!((outcome.status, outcome.booted), (Status::Code(7), false));
        guest.join().unwrap().0
    };
    let (first, second) = (once(), once());
    assert_eq!(first.entropy.len(), ENTROPY);
    assert_ne!(first.entropy, second.entropy);
    let now = crate::human::nanoseconds();
    let age = now.checked_sub(first.time).unwrap();
    assert!(age < 60_000_000_000, "{age}");
}

#[test]
fn a_machine_that_boots_after_all_is_served_like_any() {
    let (outcome, guest) = run(|guest| {
        let lost = guest.survivor();
        let mut control = guest.hello();
        let asked = protocol::read::<FromHost>(&mut control).unwrap();
        assert!(matches!(asked, Some(FromHost::Run { .. })), "{asked:?}");
        send(&mut control, &started(1));
        output(&guest, Stream::Stdout);
        output(&guest, Stream::Stderr);
        send(&mut control, &exited(0));
        (lost, control, guest)
    });
    assert!(outcome.unwrap().booted);
    drop(guest);
}

#[test]
fn a_restored_machine_has_one_control_connection() {
    let (outcome, _guest) = run(|guest| (guest.survivor(), guest.survivor(), guest));
    assert!(
        matches!(outcome, Err(AgentError::Protocol(_))),
        "{outcome:?}"
    );
}

#[test]
fn a_restored_machine_that_stays_silent_is_given_up() {
    let (outcome, _guest) = run(|guest| (guest.survivor(), guest));
    assert!(matches!(outcome, Err(AgentError::Silent)), "{outcome:?}");
}

#[test]
fn a_copy_is_renewed_and_not_asked_to_run() {
    let way = |agent: Agent<'_>| agent.of_copy().run();
    let (outcome, guest) = run_with(Vec::new(), None, way, |guest| {
        let mut control = guest.hello();
        let renewal = protocol::read::<FromHost>(&mut control).unwrap();
        assert!(matches!(renewal, Some(FromHost::Renew(_))), "{renewal:?}");
        output(&guest, Stream::Stdout);
        output(&guest, Stream::Stderr);
        send(&mut control, &started(1));
        send(&mut control, &exited(7));
        control.set_read_timeout(Some(DRAIN_LIMIT)).unwrap();
        let more = protocol::read::<FromHost>(&mut control);
        (control, guest, matches!(more, Ok(Some(_))))
    });
    assert_eq!(outcome.unwrap().status, Status::Code(7));
    assert!(!guest.join().unwrap().2, "it was asked for more");
}

/// Where a snapshot is to be made: the two files, empty.
/// What the host says next.
pub(super) fn next(control: &mut UnixStream) -> FromHost {
    protocol::read(control).unwrap().unwrap()
}

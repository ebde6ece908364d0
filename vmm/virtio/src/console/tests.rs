//! The console: what is printed comes out, what is typed goes in, and a reader that sleeps costs a bounded amount.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{BACKLOG, Console, RECEIVE, TRANSMIT};
use crate::VirtioDevice;
use crate::contract::{Subject, device_contract};
use crate::guest::Guest;
use crate::poll::is_ready;

/// A console whose two pipes stay open while devices come and go.
struct Pipes {
    printed: File,
    typed: File,
    output: OwnedFd,
    input: OwnedFd,
}

fn pipe() -> (File, OwnedFd, OwnedFd, File) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let (input, typed) = rustix::pipe::pipe().unwrap();
    (File::from(read), write, input, File::from(typed))
}

impl Subject for Pipes {
    type Device = Console;
    const EAGER: usize = TRANSMIT;

    fn new() -> Self {
        let (printed, output, input, typed) = pipe();
        let flags = fcntl_getfl(&printed).unwrap();
        fcntl_setfl(&printed, flags | OFlags::NONBLOCK).unwrap();
        Self {
            printed,
            typed,
            output,
            input,
        }
    }

    fn device(&mut self) -> Console {
        let output = self.output.try_clone().unwrap();
        Console::new(output, Some(self.input.try_clone().unwrap())).unwrap()
    }

    fn exercise(&mut self, guest: &mut Guest) {
        // Whatever a hostile driver printed before.
        let mut bytes = Vec::new();
        while self.printed.read_to_end(&mut bytes).is_err() && !bytes.is_empty() {
            bytes.clear();
            guest.host_ready();
        }
        guest.exchange(TRANSMIT, &[b"hello, ", b"console\n"], &[]);
        let mut bytes = [0; 64];
        let length = self.printed.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"hello, console\n");
        guest.offer(RECEIVE, &[], &[3, 5]);
        guest.kick(RECEIVE);
        self.typed.write_all(b"typed").unwrap();
        guest.host_ready();
        let answer = guest.take(RECEIVE).unwrap();
        assert_eq!(&answer.bytes[..5], b"typed");
        assert_eq!(answer.length, 5);
    }
}

device_contract!(Pipes);

#[test]
fn a_sleeping_reader_costs_a_bounded_amount_and_learns_of_the_loss() {
    let (mut printed, output, _, _) = pipe();
    let mut guest = Guest::new(Console::new(output, None).unwrap());
    guest.start();
    let line = [b'x'; 5000];
    // Far more than pipe and backlog hold; the guest never waits.
    for _ in 0..200 {
        guest.exchange(TRANSMIT, &[&line], &[]);
    }
    let flags = fcntl_getfl(&printed).unwrap();
    fcntl_setfl(&printed, flags | OFlags::NONBLOCK).unwrap();
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let _ = printed.read_to_end(&mut bytes);
        if bytes.len() == before {
            break;
        }
        guest.host_ready();
    }
    let text = String::from_utf8(bytes).unwrap();
    let kept = text.bytes().filter(|&byte| byte == b'x').count();
    assert!((BACKLOG..BACKLOG + (1 << 17)).contains(&kept), "{kept}");
    let note = format!(
        "\r\n[{} bytes of console output lost]\r\n",
        200 * 5000 - kept
    );
    assert!(text.ends_with(&note), "{}", &text[kept..]);
    // Then all is as before.
    guest.exchange(TRANSMIT, &[b"again"], &[]);
    let mut bytes = [0; 16];
    assert_eq!(printed.read(&mut bytes).unwrap(), 5);
}

#[test]
fn a_reader_that_is_gone_stops_nothing() {
    let (printed, output, _, _) = pipe();
    drop(printed);
    let mut guest = Guest::new(Console::new(output, None).unwrap());
    guest.start();
    for _ in 0..100 {
        guest.exchange(TRANSMIT, &[&[b'x'; 5000]], &[]);
    }
    guest.host_ready();
    assert!(!guest.is_broken());
}

#[test]
fn input_waits_for_the_guest_without_keeping_the_device_awake() {
    let (_printed, output, input, mut typed) = pipe();
    let console = Console::new(output, Some(input)).unwrap();
    let watch = console.host_fd().unwrap().try_clone_to_owned().unwrap();
    let mut guest = Guest::new(console);
    typed.write_all(b"early").unwrap();
    // Before the driver is ready, and while it has no buffer.
    for _ in 0..2 {
        guest.host_ready();
        assert!(!is_ready(&watch, PollFlags::IN));
        guest.start();
    }
    guest.offer(RECEIVE, &[], &[2]);
    guest.kick(RECEIVE);
    assert_eq!(guest.take(RECEIVE).unwrap().bytes, b"ea");
    let rest = guest.exchange(RECEIVE, &[], &[16]);
    assert_eq!(&rest.bytes[..3], b"rly");
    // The end of the input is no event for the guest, and none that repeats.
    drop(typed);
    guest.offer(RECEIVE, &[], &[16]);
    guest.kick(RECEIVE);
    for _ in 0..3 {
        guest.host_ready();
    }
    assert_eq!(guest.take(RECEIVE), None);
    assert!(!is_ready(&watch, PollFlags::IN));
}

#[test]
fn files_will_do_for_both() {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"from a file").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let output = tempfile::NamedTempFile::new().unwrap();
    let to = OwnedFd::from(output.reopen().unwrap());
    let mut guest = Guest::new(Console::new(to, Some(input.into())).unwrap());
    guest.start();
    let answer = guest.exchange(RECEIVE, &[], &[64]);
    assert_eq!(&answer.bytes[..11], b"from a file");
    guest.exchange(TRANSMIT, &[b"to a file"], &[]);
    assert_eq!(std::fs::read(output.path()).unwrap(), b"to a file");
}

//! Readers that go, and readers that do not read.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread;

use protocol::Stream;

use super::Fan;

#[test]
fn who_is_bound_is_missed_until_released() {
    let fan = Fan::new(Stream::Stdout, None);
    let gone = || UnixStream::pair().unwrap().0;
    fan.attach(gone(), false);
    fan.write(b"one").unwrap();
    fan.attach(gone(), true);
    fan.write(b"two").unwrap_err();
    fan.attach(gone(), true);
    fan.release();
    fan.write(b"three").unwrap();
}

#[test]
fn a_reader_that_does_not_read_keeps_nobody_from_attaching() {
    let fan = Fan::new(Stream::Stdout, None);
    let (slow, mut other) = UnixStream::pair().unwrap();
    fan.attach(slow, true);
    let writer = fan.clone();
    // More than a socket holds.
    let bytes = vec![7; 4 << 20];
    let length = bytes.len();
    let writing = thread::spawn(move || writer.write(&bytes));
    let mut first = [0];
    other.read_exact(&mut first).unwrap();
    let (new, mut newly) = UnixStream::pair().unwrap();
    fan.attach(new, false);
    fan.release();
    let mut rest = vec![0; length - 1];
    other.read_exact(&mut rest).unwrap();
    writing.join().unwrap().unwrap();
    fan.write(b"next").unwrap();
    fan.close();
    let mut seen = Vec::new();
    newly.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, b"next");
}

//! Carrying between pipes that do not block.

use std::io::{Read, Write, pipe};
use std::vec;

use rustix::fs::{OFlags, fcntl_setfl};

use super::*;

#[test]
fn a_full_sink_loses_nothing() {
    let (from, mut source) = pipe().unwrap();
    let (mut sink, to) = pipe().unwrap();
    fcntl_setfl(&from, OFlags::NONBLOCK).unwrap();
    fcntl_setfl(&to, OFlags::NONBLOCK).unwrap();
    let sent: Vec<u8> = (0..200_000_u32)
        .map(|number| number.to_le_bytes()[0])
        .collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || source.write_all(&copy).unwrap());

    let mut relay = Relay::default();
    let mut received = Vec::new();
    loop {
        match relay.carry(&from, &to) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::AGAIN) if relay.is_empty() => std::thread::yield_now(),
            Err(Errno::AGAIN) => {
                let mut some = vec![0; 10_000];
                let read = sink.read(&mut some).unwrap();
                received.extend_from_slice(&some[..read]);
            }
            Err(errno) => panic!("{errno:?}"),
        }
    }
    drop(to);
    sink.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert_eq!(received, sent);
}

#[test]
fn it_is_empty_only_after_the_source_said_so() {
    let (from, mut source) = pipe().unwrap();
    let (_sink, to) = pipe().unwrap();
    fcntl_setfl(&from, OFlags::NONBLOCK).unwrap();
    let mut relay = Relay::default();
    assert!(!relay.is_empty());
    source.write_all(b"x").unwrap();
    assert_eq!(relay.carry(&from, &to), Ok(1));
    assert!(!relay.is_empty());
    assert_eq!(relay.carry(&from, &to), Err(Errno::AGAIN));
    assert!(relay.is_empty());
}

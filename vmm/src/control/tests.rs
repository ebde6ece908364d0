//! Messages and descriptors between processes that may be gone.

use std::fs::File;
use std::io::{Read, Seek, Write};

use super::*;

#[test]
fn messages_and_descriptors_arrive_whole_and_in_order() {
    let (one, other) = Socket::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"shared").unwrap();
    one.send(&Answer::Started, None).unwrap();
    let stream = Answer::Stream(Stream::Stdout, b"first".to_vec());
    one.send(&stream, Some(file.as_fd())).unwrap();
    drop(one);
    let (answer, none) = other.receive::<Answer>(true).unwrap().unwrap();
    assert!(matches!(answer, Answer::Started) && none.is_none());
    let (answer, descriptor) = other.receive::<Answer>(true).unwrap().unwrap();
    assert!(matches!(answer, Answer::Stream(Stream::Stdout, first) if first == b"first"));
    let mut text = String::new();
    let mut same = File::from(descriptor.unwrap());
    same.rewind().unwrap();
    same.read_to_string(&mut text).unwrap();
    assert_eq!(text, "shared");
    assert!(matches!(
        other.receive::<Answer>(true),
        Err(ControlError::Closed)
    ));
}

#[test]
fn nothing_is_waited_for_unless_asked_and_nonsense_is_an_error() {
    let (one, other) = Socket::pair().unwrap();
    assert!(other.receive::<Answer>(false).unwrap().is_none());
    rustix::net::send(&one, &[0xff; 9], SendFlags::empty()).unwrap();
    assert!(matches!(
        other.receive::<Answer>(false),
        Err(ControlError::Malformed(_))
    ));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_sent() {
    let (one, other) = Socket::pair().unwrap();
    let long = Answer::Refused("x".repeat(LONGEST));
    assert!(matches!(one.send(&long, None), Err(ControlError::TooLong)));
    assert!(other.receive::<Answer>(false).unwrap().is_none());
}

#[test]
fn a_listener_takes_the_place_of_one_that_died() {
    let place = tempfile::tempdir().unwrap();
    let directory = File::open(place.path()).unwrap();
    assert!(Socket::connect(directory.as_fd()).is_err());
    drop(Listener::bind(directory.as_fd()).unwrap());
    assert!(matches!(
        Socket::connect(directory.as_fd()),
        Err(ControlError::Socket(Errno::CONNREFUSED))
    ));
    let listener = Listener::bind(directory.as_fd()).unwrap();
    let client = Socket::connect(directory.as_fd()).unwrap();
    let server = listener.accept().unwrap();
    client.send(&Request::Wait, None).unwrap();
    let (request, _) = server.receive::<Request>(true).unwrap().unwrap();
    assert!(matches!(request, Request::Wait));
    assert!(listener.accept().is_err(), "nobody else waits");
}

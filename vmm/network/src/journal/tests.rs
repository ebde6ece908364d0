//! Files as they are written.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::Ipv4Addr;

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;

fn journal() -> (Journal, File, File) {
    let file = || File::from(memfd_create("journal", MemfdFlags::CLOEXEC).unwrap());
    let (log, counts) = (file(), file());
    let files = Files {
        log: log.try_clone().unwrap().into(),
        counts: counts.try_clone().unwrap().into(),
    };
    (Journal::new(Some(files)), log, counts)
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn each_place_is_said_once_in_a_row_and_harmlessly() {
    let (mut journal, mut log, _) = journal();
    let place = |port| Denied::Tcp((Ipv4Addr::new(192, 0, 2, 1), port).into());
    for place in [
        place(80),
        place(80),
        place(81),
        Denied::Name("a\u{1b}[b".into()),
    ] {
        journal.denied(place);
    }
    let lines = text(&mut log);
    let ends: Vec<&str> = lines
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        ends,
        ["tcp 192.0.2.1:80", "tcp 192.0.2.1:81", "name a\\u{1b}[b"]
    );
    assert_eq!(journal.counts.denied, 4);
}

#[test]
fn a_log_does_not_grow_for_ever() {
    let (mut journal, log, _) = journal();
    for number in 0..50_000_u32 {
        journal.denied(Denied::Echo(Ipv4Addr::from_bits(number).into()));
    }
    let length = usize::try_from(log.metadata().unwrap().len()).unwrap();
    assert!(length <= MOST_LOG && length > MOST_LOG / 2, "{length}");
}

#[test]
fn counts_come_back_as_they_were() {
    let (mut journal, _, mut file) = journal();
    assert!(!journal.is_behind());
    journal.counts = Counts {
        sent: 1,
        received: u64::MAX,
        flows: 3,
        denied: 4,
    };
    assert!(journal.is_behind());
    for _ in 0..2 {
        journal.write();
    }
    assert!(!journal.is_behind());
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(Counts::read(&bytes), Some(journal.counts));
    assert_eq!(Counts::read(&bytes[1..]), None);
}

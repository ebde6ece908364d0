//! Readers that read, stall, and go away.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_reader_gets_its_lines() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut log = Log::new(writer);
    log.put("one");
    log.put("two");
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one\ntwo\n");
}

#[test]
fn a_stalled_reader_loses_lines_and_learns_how_many() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut log = Log::new(writer);
    let line = "x".repeat(4000);
    let start = Instant::now();
    for _ in 0..1000 {
        log.put(&line);
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(log.lost > 900);
    let lost = log.lost;
    let mut bytes = vec![0; 4001 * usize::try_from(1000 - lost).unwrap()];
    reader.read_exact(&mut bytes).unwrap();
    log.put("after");
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(
        text,
        format!("[{lost} lines of the kernel's log lost]\nafter\n")
    );
}

#[test]
fn a_reader_that_is_gone_costs_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut log = Log::new(writer);
    let start = Instant::now();
    for _ in 0..1000 {
        log.put("nobody");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut log = Log::new(File::options().write(true).open("/dev/full").unwrap());
    log.put("nobody");
}

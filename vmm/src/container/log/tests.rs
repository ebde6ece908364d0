//! Lines in, lines out.

use super::*;

fn entries(path: &Path) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let file = File::open(path).unwrap();
    let length = read(&file, |entry| {
        assert!(human::seconds(&entry.time).is_some(), "{}", entry.time);
        entries.push((entry.stream, entry.log));
        Ok(())
    });
    assert_eq!(length.unwrap(), file.metadata().unwrap().len());
    entries
}

#[test]
fn lines_are_whole_however_they_come() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let mut log = Log::open(&path).unwrap();
    log.write(Stream::Stdout, b"one\ntw").unwrap();
    log.write(Stream::Stderr, b"\x1b[31m\xff\n").unwrap();
    log.write(Stream::Stdout, b"o\nthree").unwrap();
    log.finish(Stream::Stdout).unwrap();
    log.finish(Stream::Stderr).unwrap();
    let line = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
    assert_eq!(
        entries(&path),
        [
            line("stdout", "one\n"),
            line("stderr", "\x1b[31m\u{fffd}\n"),
            line("stdout", "two\n"),
            line("stdout", "three"),
        ]
    );
}

#[test]
fn a_line_without_end_is_cut_and_a_long_log_put_away() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let mut log = Log::open(&path).unwrap();
    log.write(Stream::Stdout, &vec![b'x'; 3 * LONGEST_LINE + 5])
        .unwrap();
    assert_eq!(entries(&path).len(), 3);
    let mebibyte = [b"0123456789abcdef\n".repeat(61_000)].concat();
    for _ in 0..60 {
        log.write(Stream::Stdout, &mebibyte).unwrap();
    }
    let length = |path: &Path| std::fs::metadata(path).unwrap().len();
    let most = LONGEST + 8 * mebibyte.len() as u64;
    assert!(length(&path) < most && length(&older(&path)) < most);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn half_a_line_is_left_for_later_and_nonsense_left_out() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    std::fs::write(&path, "nonsense\n{\"log\":\"half").unwrap();
    let mut count = 0;
    let whole = read(&File::open(&path).unwrap(), |_| {
        count += 1;
        Ok(())
    });
    assert_eq!((whole.unwrap(), count), (9, 0));
}

//! Lines in, lines out.

use super::*;

fn entries(path: &Path) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let file = File::open(path).unwrap();
    let length = read(&file, |entry: Entry| {
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
    let mut log = Log::open(&path, Limits::default()).unwrap();
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
    let mut log = Log::open(&path, Limits::default()).unwrap();
    log.write(Stream::Stdout, &vec![b'x'; 3 * LONGEST_LINE + 5])
        .unwrap();
    assert_eq!(entries(&path).len(), 3);
}

#[test]
fn a_long_log_is_put_away_as_often_as_it_is_allowed_to() {
    for files in [1, 2, 4] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        let limits = Limits { size: 4096, files };
        let mut log = Log::open(&path, limits).unwrap();
        for number in 0..1000 {
            log.write(Stream::Stdout, format!("{number}\n").as_bytes())
                .unwrap();
        }
        let parts = older(&path, limits).rev().chain([path.clone()]);
        let lines: Vec<String> = parts
            .flat_map(|part| entries(&part))
            .map(|(_, line)| line)
            .collect();
        let last: Vec<String> = (1000 - lines.len()..1000)
            .map(|n| format!("{n}\n"))
            .collect();
        assert_eq!(lines, last, "the last lines, in order");
        let there = std::fs::read_dir(place.path()).unwrap();
        let lengths: Vec<u64> = there
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(lengths.len(), files as usize);
        assert!(
            lengths.iter().all(|length| *length < 4096 + 200),
            "{lengths:?}"
        );
    }
}

#[test]
fn options_are_read_as_docker_reads_them() {
    assert_eq!("max-size=10m".parse(), Ok(LogOption::MaxSize(10 << 20)));
    assert_eq!("max-file=3".parse(), Ok(LogOption::MaxFile(3)));
    for text in [
        "max-size",
        "max-size=1",
        "max-size=x",
        "max-file=0",
        "max-file=-1",
        "tag=x",
    ] {
        text.parse::<LogOption>().unwrap_err();
    }
}

#[test]
fn half_a_line_is_left_for_later_and_nonsense_left_out() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    std::fs::write(&path, "nonsense\n{\"log\":\"half").unwrap();
    let mut count = 0;
    let whole = read(&File::open(&path).unwrap(), |_: Entry| {
        count += 1;
        Ok(())
    });
    assert_eq!((whole.unwrap(), count), (9, 0));
}

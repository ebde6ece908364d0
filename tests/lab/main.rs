//! What `cargo xtask lab` promises: a command runs there as if it ran here. Each test boots a lab, so there are few.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The xtask that runs these tests: `cargo xtask test` says which.
fn lab(options: &[&str]) -> Command {
    let xtask =
        std::env::var_os("XTASK").expect("`cargo xtask test` runs these tests and sets XTASK");
    let mut command = Command::new(xtask);
    command
        .args(["lab", "--timeout", "200"])
        .args(options)
        .arg("--");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    format!("{}\n{}", output.status, String::from_utf8_lossy(&both))
}

/// How many processes have this word in their command line.
fn processes(word: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&line).contains(word));
    }
    count
}

#[test]
fn a_command_finds_itself_at_home() {
    use std::os::unix::ffi::OsStringExt;
    let odd = std::ffi::OsString::from_vec(b"a  b\n'c' \"d\" $e \xff".to_vec());
    let script = "
        pwd; echo $MARK; printf '[%s]' \"$@\"; echo; ls -l /dev/kvm | cut -c1-10; cat /proc/filesystems | grep -c cgroup2
        cat /sys/class/net/lo/operstate; unshare -Ur id -u; grep -o -m1 -w svm /proc/cpuinfo; nproc
        echo gone > here; echo error >&2; exit 7";
    let directory = tests::fixture::scratch("lab home").unwrap();
    let mut command = lab(&[]);
    command
        .args(["sh", "-c", script, "sh"])
        .arg(odd)
        .arg("")
        .current_dir(&directory)
        .env("MARK", "a mark");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert_eq!(output.stderr, b"error\n", "{}", text(&output));
    let mut expected = format!("{}\na mark\n", directory.display()).into_bytes();
    expected.extend_from_slice(b"[a  b\n'c' \"d\" $e \xff][]\ncrw-rw-rw-\n1\nunknown\n0\nsvm\n1\n");
    assert_eq!(output.stdout, expected, "{}", text(&output));
    assert!(!directory.join("here").exists(), "a write came through");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn it_has_as_many_processors_as_asked_for() {
    let output = lab(&["--cpus", "3"]).arg("nproc").output().unwrap();
    assert_eq!(output.stdout, b"3\n", "{}", text(&output));
}

#[test]
fn streams_are_whole_and_apart() {
    let megabytes: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let output = with_input(lab(&[]).args(["tee", "/dev/stderr"]), &megabytes);
    assert!(output.status.success());
    assert!(
        output.stdout == megabytes,
        "standard output: {} bytes",
        output.stdout.len()
    );
    assert!(
        output.stderr == megabytes,
        "standard error: {} bytes",
        output.stderr.len()
    );
}

#[test]
fn a_shared_directory_is_written_for_real() {
    let directory = tests::fixture::scratch("lab share").unwrap();
    let mut command = lab(&["--icount", "--share-rw", directory.to_str().unwrap()]);
    let output = command
        .args(["sh", "-c", "echo kept > kept; cat given; kill -9 $$"])
        .current_dir(&directory);
    std::fs::write(directory.join("given"), "given").unwrap();
    let output = output.output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(137), b"given".as_slice()),
        "{}",
        text(&output)
    );
    assert_eq!(std::fs::read(directory.join("kept")).unwrap(), b"kept\n");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_time_out_ends_it_and_nothing_is_left() {
    let directory = tests::fixture::scratch("lab-time-out").unwrap();
    let start = Instant::now();
    let output = lab(&["--timeout", "9", "--share-rw", directory.to_str().unwrap()])
        .args(["sleep", "100"])
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));
    assert!(
        text(&output).contains("time-out of 9 s"),
        "{}",
        text(&output)
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(processes("lab-time-out"), 0);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn two_at_once_one_of_them_killed() {
    let directory = tests::fixture::scratch("lab-killed").unwrap();
    let shared = directory.to_str().unwrap();
    let mut killed = lab(&["--share-rw", shared])
        .args(["sh", "-c", "touch begun; sleep 100"])
        .current_dir(&directory)
        .spawn();
    let killed = killed.as_mut().unwrap();
    let other = lab(&[])
        .args(["sh", "-c", "sleep 3; echo fine"])
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !directory.join("begun").exists() {
        assert!(
            start.elapsed() < Duration::from_secs(100),
            "the lab has not begun"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_child(killed), Signal::KILL).unwrap();
    killed.wait().unwrap();
    let output = other.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"fine\n", "{}", text(&output));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(processes("lab-killed"), 0);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn benchmarks_run_as_on_a_host_of_their_own() {
    let directory = tests::fixture::scratch("lab-host").unwrap();
    let rows = directory.join("rows.json");
    // `cargo xtask bench --check` has built it.
    let benches = tests::target().join("debug/benches");
    let mut command = lab(&["--share-rw", directory.to_str().unwrap()]);
    command
        .arg(benches)
        .arg(&rows)
        .args(["host", "crun", "exec"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let rows = std::fs::read(&rows).unwrap();
    let rows: Vec<tests::bench::Row> = serde_json::from_slice(&rows).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let mut sorted = row.samples.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!((row.unit.as_str(), sorted.len()), ("ms", 15), "{row:?}");
    assert_eq!((row.figure, row.target), (sorted[7], None), "{row:?}");
    assert!(row.counts["all nanoseconds"] > 1_000_000, "{row:?}");
    assert!(row.counts["system calls of the host"] > 100, "{row:?}");
    std::fs::remove_dir_all(directory).unwrap();
}

//! PATH look-up and what its failures mean.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use alloc::string::{String, ToString};
use std::format;
use std::prelude::v1::*;

use super::*;

fn tried(name: &str, path: &str, answers: &[Errno]) -> (Vec<String>, Attempt) {
    let mut seen = Vec::new();
    let attempt = Program::new(name.as_bytes(), path.as_bytes()).execute(|file| {
        seen.push(file.to_str().unwrap().to_owned());
        answers[seen.len() - 1]
    });
    (seen, attempt)
}

/// Runs the attempts against real files: what exists is asked for access, as execve would.
fn explained(name: &str, path: &Path, answer: Errno) -> NotExecuted {
    let program = Program::new(name.as_bytes(), path.as_os_str().as_bytes());
    let attempt = program.execute(|file| match rustix::fs::access(file, Access::EXISTS) {
        Ok(()) => answer,
        Err(errno) => errno,
    });
    program.explain(attempt)
}

#[test]
fn a_name_is_looked_for_in_each_directory() {
    let missing = [Errno::NOENT, Errno::NOTDIR, Errno::NOENT];
    let (seen, attempt) = tried("true", "/nowhere/a:/nowhere/b:", &missing);
    assert_eq!(seen, ["/nowhere/a/true", "/nowhere/b/true", "./true"]);
    assert_eq!(attempt.errno, Errno::NOENT);
}

#[test]
fn a_name_with_a_slash_is_a_file() {
    let (seen, attempt) = tried("./nowhere/true", "/bin:/sbin", &[Errno::NOENT]);
    assert_eq!(seen, ["./nowhere/true"]);
    assert_eq!(
        attempt,
        Attempt {
            at: 0,
            errno: Errno::NOENT,
            exists: false
        }
    );
}

#[test]
fn the_search_goes_on_after_a_file_without_permission() {
    let (seen, attempt) = tried("x", "/nowhere/a:/nowhere/b", &[Errno::ACCESS, Errno::NOENT]);
    assert_eq!(seen.len(), 2);
    assert_eq!(
        attempt,
        Attempt {
            at: 0,
            errno: Errno::ACCESS,
            exists: true
        }
    );
}

#[test]
fn any_other_answer_ends_the_search() {
    let (seen, attempt) = tried("x", "/nowhere/a:/nowhere/b", &[Errno::NOEXEC]);
    assert_eq!(seen.len(), 1);
    assert_eq!(attempt.errno, Errno::NOEXEC);
}

#[test]
fn no_name_is_not_found() {
    let (seen, attempt) = tried("", "/bin", &[]);
    assert!(seen.is_empty());
    assert_eq!(attempt.errno, Errno::NOENT);
}

#[test]
fn what_the_user_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("tool"), "").unwrap();
    let cases = [
        (
            "gone",
            Errno::NOENT,
            Failure::NotFound,
            format!(
                "Program \"gone\" is in no directory of PATH ({})",
                at.display()
            ),
        ),
        (
            "/nowhere/g\n",
            Errno::NOENT,
            Failure::NotFound,
            "Program \"/nowhere/g\\n\" does not exist".into(),
        ),
        (
            "tool",
            Errno::NOENT,
            Failure::NotFound,
            format!(
                "Program \"{}/tool\" exists, but its interpreter or loader does not",
                at.display()
            ),
        ),
        (
            "tool",
            Errno::ACCESS,
            Failure::NotExecutable,
            format!(
                "Program \"{}/tool\" cannot be executed: permission denied (EACCES)",
                at.display()
            ),
        ),
        (
            "tool",
            Errno::NOEXEC,
            Failure::NotExecutable,
            format!(
                "Program \"{}/tool\" cannot be executed: exec format error (ENOEXEC)",
                at.display()
            ),
        ),
    ];
    for (name, answer, failure, message) in cases {
        let told = explained(name, at, answer);
        assert_eq!((told.failure, told.to_string()), (failure, message));
    }
}
